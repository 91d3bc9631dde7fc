import gzip
import io
import stat
import tarfile
import zipfile

import pytest

from analogmed.data.archive import extract
from analogmed.foundation.errors import DataError, SecurityError

FILES = {"Task/dataset.json": b"{}", "Task/imagesTr/a.bin": bytes(range(256)) * 40}


def write_tar(path, files=FILES, members=(), mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in members:
            tar.addfile(info)
    return path


def write_zip(path, files=FILES, infos=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for info, content in infos:
            archive.writestr(info, content)
    return path


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refused(archive, tmp_path, error, match, **limits):
    before = set(tmp_path.rglob("*")) - {tmp_path / "out"}
    with pytest.raises(error, match=match) as caught:
        extract(archive, tmp_path / "out" / "Task", **limits)
    after = set(tmp_path.rglob("*")) - {tmp_path / "out"}
    assert after == before, "something was written"
    assert str(archive) in str(caught.value)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_unpacked_whatever_its_compression(mode, tmp_path):
    out = extract(write_tar(tmp_path / "a.tar", mode=mode), tmp_path / "Task")
    assert (out / "imagesTr/a.bin").read_bytes() == FILES["Task/imagesTr/a.bin"]
    assert (out / "dataset.json").read_bytes() == b"{}"
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "Task"}


def test_a_zip_is_unpacked(tmp_path):
    out = extract(write_zip(tmp_path / "a.zip"), tmp_path / "Task")
    assert (out / "imagesTr/a.bin").read_bytes() == FILES["Task/imagesTr/a.bin"]


def test_a_top_folder_of_another_name_is_kept(tmp_path):
    out = extract(write_tar(tmp_path / "a.tar"), tmp_path / "data")
    assert (out / "Task" / "dataset.json").is_file()


def test_folders_and_a_leading_dot_are_accepted(tmp_path):
    files = {f"./{name}": content for name, content in FILES.items()}
    folders = [member("./", tarfile.DIRTYPE), member("./Task/empty", tarfile.DIRTYPE)]
    out = extract(write_tar(tmp_path / "a.tar", files, folders), tmp_path / "Task")
    assert (out / "empty").is_dir()
    assert (out / "dataset.json").is_file()


OUTSIDE = ["../evil", "Task/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "\\\\host\\share\\x"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_tar_entry_outside_the_folder_is_refused(name, tmp_path):
    archive = write_tar(tmp_path / "a.tar", {**FILES, name: b"x"})
    refused(archive, tmp_path, SecurityError, "outside the folder")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_zip_entry_outside_the_folder_is_refused(name, tmp_path):
    archive = write_zip(tmp_path / "a.zip", {**FILES, name: b"x"})
    refused(archive, tmp_path, SecurityError, "outside the folder")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "device"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(kind, word, tmp_path):
    odd = member("Task/odd", kind, "Task/dataset.json")
    refused(write_tar(tmp_path / "a.tar", members=[odd]), tmp_path, SecurityError, word)


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("Task/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = write_zip(tmp_path / "a.zip", infos=[(info, b"/etc/passwd")])
    refused(archive, tmp_path, SecurityError, "is a link")


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_more_bytes_than_the_limit_are_refused(write, tmp_path):
    archive = write(tmp_path / "bomb", {"Task/zeros": bytes(2_000_000)})
    assert archive.stat().st_size < 10_000
    refused(archive, tmp_path, SecurityError, "more than 1000000 bytes", max_bytes=1_000_000)


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_more_entries_than_the_limit_are_refused(write, tmp_path):
    archive = write(tmp_path / "many", {f"Task/{n}": b"" for n in range(20)})
    refused(archive, tmp_path, SecurityError, "more than 10 entries", max_files=10)


def test_a_tar_header_that_announces_a_huge_extension_is_refused(tmp_path):
    info = member("Task/pax", tarfile.XHDTYPE)
    info.size = 2**32
    archive = tmp_path / "a.tar"
    archive.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(10_240))
    refused(archive, tmp_path, SecurityError, "announces 4294967296 bytes")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_a_truncated_archive_is_refused(write, share, tmp_path):
    whole = write(tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[: int(share * len(whole))])
    refused(tmp_path / "a", tmp_path, DataError, "truncated|damaged")


def test_a_tar_cut_exactly_between_two_entries_is_refused(tmp_path):
    archive = write_tar(tmp_path / "a.tar", mode="w")
    archive.write_bytes(archive.read_bytes()[:1024])
    refused(archive, tmp_path, DataError, "truncated")


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_a_flipped_byte_is_noticed(write, tmp_path):
    archive = write(tmp_path / "a")
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0x10
    archive.write_bytes(content)
    refused(archive, tmp_path, DataError, "damaged|truncated|cannot|twice|outside|ends after")


def test_an_encrypted_zip_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip")
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + offset] |= 1
            start = content.find(signature, start + 1)
    archive.write_bytes(content)
    refused(archive, tmp_path, DataError, "encrypted")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty file"),
        (b"<html>quota exceeded</html>", "web page"),
        (b"no archive at all" * 100, "neither a tar nor a zip"),
        (gzip.compress(b"only text", mtime=0), "neither a tar nor a zip"),
    ],
)
def test_a_file_that_is_no_archive_is_refused(content, match, tmp_path):
    (tmp_path / "a.tar").write_bytes(content)
    refused(tmp_path / "a.tar", tmp_path, DataError, match)


def test_endless_padding_after_the_last_entry_is_refused(tmp_path):
    whole = gzip.decompress(write_tar(tmp_path / "a.tar").read_bytes())
    (tmp_path / "a.tar").write_bytes(gzip.compress(whole + bytes(70_000_000), compresslevel=1))
    refused(tmp_path / "a.tar", tmp_path, SecurityError, "after the last entry")


def test_a_missing_archive_is_named(tmp_path):
    refused(tmp_path / "none.tar", tmp_path, DataError, "missing file")


def test_an_archive_without_entries_is_refused(tmp_path):
    refused(write_tar(tmp_path / "a.tar", {}), tmp_path, DataError, "empty archive")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_name_that_stands_twice_is_refused(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("Task/a", b"1")
        opened.writestr("Task/a", b"2")
    refused(archive, tmp_path, DataError, "twice")


def test_a_file_where_a_folder_should_be_leaves_nothing(tmp_path):
    archive = write_tar(tmp_path / "a.tar", {"Task/a": b"1", "Task/a/b": b"2"})
    refused(archive, tmp_path, DataError, "cannot be unpacked")


def test_a_destination_that_holds_something_is_left_as_it_is(tmp_path):
    (tmp_path / "out" / "Task").mkdir(parents=True)
    (tmp_path / "out" / "Task" / "old").write_text("old data")
    refused(write_tar(tmp_path / "a.tar"), tmp_path, DataError, "already there")
    assert (tmp_path / "out" / "Task" / "old").read_text() == "old data"


def test_an_empty_destination_is_filled(tmp_path):
    (tmp_path / "Task").mkdir()
    assert any(extract(write_tar(tmp_path / "a.tar"), tmp_path / "Task").iterdir())
