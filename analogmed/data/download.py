"""Download of data sets; checksums are verified before anything is unpacked."""

import hashlib
import http.client
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from analogmed.data.archive import extract
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.files import is_occupied
from analogmed.foundation.progress import ProgressBar
from analogmed.foundation.temporary import temporary_folder

_TIMEOUT_S = 60.0
_CHUNK_BYTES = 2**20


def download_decathlon(task_name: str, root: Path | str) -> Path:
    """Download a task of the Medical Segmentation Decathlon, or return an existing copy.

    URLs and checksums are those of ``monai.apps.DecathlonDataset``.

    Args:
        task_name: name of one of the ten tasks, for instance ``"Task09_Spleen"``.
        root: folder for the data; created if missing.

    Returns:
        ``root/task_name``, with its ``dataset.json``.

    Raises:
        ConfigError: the task does not exist.
        DataError: there is no Internet access, the checksum is wrong, or an incomplete folder
            exists. Existing files are left unchanged, and no temporary file remains.

    Source: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9; http://medicaldecathlon.com
    """
    # monai.apps takes seconds to import, which is not needed to read local data.
    from monai.apps.datasets import DecathlonDataset

    if task_name not in DecathlonDataset.resource:
        known = ", ".join(sorted(DecathlonDataset.resource))
        raise ConfigError(f"Decathlon task {task_name!r}; expected one of {known}")
    folder = Path(root) / task_name
    if (folder / "dataset.json").is_file():
        return folder
    url, md5 = DecathlonDataset.resource[task_name], DecathlonDataset.md5[task_name]
    return download_archive(url, folder, md5=md5)


def download_archive(url: str, destination: Path | str, *, md5: str) -> Path:
    """Download an archive, verify its checksum, and unpack it into a new folder.

    Args:
        url: http or https URL of a tar or zip archive.
        destination: target folder; missing or empty.
        md5: expected checksum, 32 hex digits.

    Returns:
        ``destination``.

    Raises:
        ConfigError: the URL is not http or https.
        DataError: the destination is not empty, the download fails, the checksum differs, or
            the archive is damaged or unsafe. No temporary file remains.
    """
    destination = Path(destination)
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"{url}: expected an http or https address")
    if is_occupied(destination):
        raise DataError(
            f"{destination}: already there but incomplete or of another origin; "
            "move it away to download it again"
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(destination.parent, "download") as workplace:
        archive = workplace / (Path(urlsplit(url).path).name or "archive")
        found = _fetch(url, archive, destination)
        if found != md5.lower():
            raise DataError(
                f"{url}: checksum (md5) {found}, expected {md5}; the file was removed; try again, "
                "and if it stays so, the file on the server was changed"
            )
        return extract(archive, destination)


def _fetch(url: str, path: Path, destination: Path) -> str:
    """Download to ``path``; return the md5 of the downloaded bytes."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response, path.open("wb") as file:
            length = response.length
            with ProgressBar(length, unit="B", title=path.name, scaled=True) as bar:
                while chunk := response.read(_CHUNK_BYTES):
                    file.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
                received = file.tell()
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"{url}: download failed ({error}); with no network here, download it elsewhere and "
            f"unpack it to {destination}"
        ) from error
    if length is not None and received < length:
        raise DataError(f"{url}: connection lost after {received} of {length} bytes; try again")
    return digest.hexdigest()
