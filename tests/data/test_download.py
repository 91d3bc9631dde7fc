import hashlib
import http.server
import io
import tarfile
import threading
from functools import partial

import pytest
from monai.apps import DecathlonDataset

from analogmed.data import load_msd
from analogmed.data.download import download_archive, download_decathlon
from analogmed.data.phantoms.write import write_phantom
from analogmed.foundation.errors import ConfigError, DataError, SecurityError

TASK = "Task09_Spleen"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class LosesConnection(QuietHandler):
    """Announces the whole file and sends half of it."""

    def copyfile(self, source, outputfile):
        content = source.read()
        outputfile.write(content[: len(content) // 2])


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The spleen task in the real layout, as the tar that the real server has."""
    folder = write_phantom("spleen", tmp_path_factory.mktemp("task"), n_patients=4, size=32)
    path = tmp_path_factory.mktemp("server") / f"{TASK}.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder, TASK)
    return path


@pytest.fixture
def serve():
    """Start a real server for a folder; gives its address."""
    servers = []

    def start(folder, handler=QuietHandler):
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(handler, directory=str(folder))
        )
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def offered(archive, serve, monkeypatch):
    """MONAI's table of addresses and checksums, pointed at the local server."""
    monkeypatch.setitem(DecathlonDataset.resource, TASK, f"{serve(archive.parent)}/{TASK}.tar")
    monkeypatch.setitem(DecathlonDataset.md5, TASK, md5_of(archive))


def md5_of(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_a_task_is_fetched_by_name_and_loads(offered, tmp_path):
    folder = download_decathlon(TASK, tmp_path / "data")
    task = load_msd(folder)
    assert folder == tmp_path / "data" / TASK
    assert len(task.train + task.validation + task.test) == 4
    assert task.read(task.test[0]).label.any()
    assert [path.name for path in (tmp_path / "data").iterdir()] == [TASK]


def test_a_task_that_is_there_is_not_fetched_again(offered, tmp_path, monkeypatch):
    folder = download_decathlon(TASK, tmp_path)
    monkeypatch.setitem(DecathlonDataset.resource, TASK, "http://127.0.0.1:9/nothing.tar")
    assert download_decathlon(TASK, tmp_path) == folder


def test_a_wrong_checksum_is_refused_and_removed(offered, archive, tmp_path, monkeypatch):
    monkeypatch.setitem(DecathlonDataset.md5, TASK, "0" * 32)
    (tmp_path / "Task04_Hippocampus").mkdir()
    (tmp_path / "Task04_Hippocampus" / "old").write_text("old data")
    with pytest.raises(DataError, match=f"{md5_of(archive)}, expected {'0' * 32}"):
        download_decathlon(TASK, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["Task04_Hippocampus"]
    assert (tmp_path / "Task04_Hippocampus" / "old").read_text() == "old data"


def test_a_half_unpacked_folder_is_named_and_kept(offered, tmp_path):
    (tmp_path / TASK / "imagesTr").mkdir(parents=True)
    with pytest.raises(DataError, match="incomplete"):
        download_decathlon(TASK, tmp_path)
    assert (tmp_path / TASK / "imagesTr").is_dir()


def test_a_lost_connection_leaves_nothing(archive, serve, tmp_path):
    url = f"{serve(archive.parent, LosesConnection)}/{TASK}.tar"
    with pytest.raises(DataError, match=r"connection lost|download failed"):
        download_archive(url, tmp_path / TASK, md5=md5_of(archive))
    assert not any(tmp_path.iterdir())


def test_without_a_network_the_error_says_what_to_do_by_hand(tmp_path):
    # Port 9 (discard) is closed here, so that the connection is refused.
    with pytest.raises(DataError, match=r"download it elsewhere and unpack it to .*Task"):
        download_archive("http://127.0.0.1:9/Task.tar", tmp_path / "Task", md5="0" * 32)
    assert not any(tmp_path.iterdir())


def test_a_page_that_is_not_there_is_named(serve, tmp_path):
    with pytest.raises(DataError, match=r"none\.tar: download failed .*404"):
        download_archive(f"{serve(tmp_path)}/none.tar", tmp_path / "Task", md5="0" * 32)
    assert not any(tmp_path.iterdir())


def test_a_right_checksum_does_not_make_an_archive_safe(serve, tmp_path):
    (tmp_path / "server").mkdir()
    evil = tmp_path / "server" / "evil.tar"
    with tarfile.open(evil, "w") as tar:
        tar.addfile(tarfile.TarInfo("../evil"), io.BytesIO())
    with pytest.raises(SecurityError, match="outside the folder"):
        download_archive(f"{serve(evil.parent)}/evil.tar", tmp_path / "Task", md5=md5_of(evil))
    assert [path.name for path in tmp_path.iterdir()] == ["server"]


def test_other_addresses_than_http_are_refused(archive, tmp_path):
    with pytest.raises(ConfigError, match="http or https"):
        download_archive(archive.as_uri(), tmp_path / "Task", md5=md5_of(archive))


def test_an_unknown_task_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"Task11_Spleen.*Task01_BrainTumour.*Task10_Colon"):
        download_decathlon("Task11_Spleen", tmp_path)
