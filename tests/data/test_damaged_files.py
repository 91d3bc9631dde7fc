"""Damaged files of data sets end in a DataError: no traceback, no hang, no flood of memory."""

import gzip
import io
import json
import os
import resource
import shutil
import struct
import tarfile
import tracemalloc
import zipfile
from contextlib import contextmanager
from datetime import timedelta

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from analogmed.data import load_msd, read_image, read_nifti
from analogmed.data.archive import extract
from analogmed.data.datasets.nifti_folder import load_nifti
from analogmed.data.readers.files import natural_order
from analogmed.foundation.errors import AnalogmedError, ConfigError, DataError

MANY = settings(max_examples=400, deadline=timedelta(seconds=10))
SHAPE = (6, 5, 4)


@contextmanager
def at_most_2_gib():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20


def nifti_bytes(at=0, number=348):
    """A small volume; ``number`` as int16 at byte ``at`` of its header."""
    image = nib.nifti1.Nifti1Image(np.arange(120, dtype=np.int16).reshape(SHAPE), np.eye(4))
    content = bytearray(image.to_bytes())
    content[at : at + 2] = struct.pack("<h", number)
    return bytes(content)


def png_bytes():
    out = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(out, format="PNG")
    return out.getvalue()


def tiff_bytes():
    out = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(out, format="TIFF")
    return out.getvalue()


def tar_bytes(mode):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, size in (("a/one.bin", 700), ("a/two.bin", 512), ("b/three.bin", 1300)):
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(range(1, 101)) * 13))
    return out.getvalue()


def zip_bytes():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/one.bin", bytes(range(100)) * 5)
        archive.writestr("b/two.bin", b"x" * 3000)
    return out.getvalue()


@st.composite
def damaged(draw, whole):
    """The bytes of a file with some of them changed, cut out, put in, or cut off at the end."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        what = draw(st.sampled_from(["change", "insert", "remove", "cut", "number"]))
        if what == "change" and at < len(content):
            content[at] ^= draw(st.integers(1, 255))
        elif what == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=20))
        elif what == "remove":
            del content[at : at + draw(st.integers(1, 600))]
        elif what == "cut":
            del content[at:]
        else:
            number = draw(st.sampled_from([0, 1, -1, 2**15 - 1, 2**31 - 1, 0x7F800000, 0x7FC00000]))
            content[at : at + 4] = struct.pack("<i", number)
    return bytes(content)


def read_or_refuse(read, *arguments, **options):
    with at_most_2_gib():
        try:
            return read(*arguments, **options)
        except AnalogmedError as error:
            assert str(error)
            return None


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:.*pixdim")
@MANY
@given(data=st.data(), is_compressed=st.booleans(), in_header=st.booleans())
def test_damaged_volumes(data, is_compressed, in_header, tmp_path_factory):
    whole = nifti_bytes()
    if in_header:
        content = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.sampled_from([*range(40, 56), *range(70, 128), *range(252, 348)]))
            content[at] = data.draw(st.sampled_from([0, 1, 2, 4, 8, 16, 64, 127, 128, 255]))
        content = bytes(content)
    else:
        content = data.draw(damaged(whole))
    path = tmp_path_factory.mktemp("volumes") / ("a.nii.gz" if is_compressed else "a.nii")
    path.write_bytes(gzip.compress(content, 1) if is_compressed else content)
    volume = read_or_refuse(read_nifti, path)
    if volume is not None:
        assert np.isfinite(volume.data).all()
        assert volume.data.size <= 120 * 2  # int16 read as int8 at most


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("whole", [png_bytes(), tiff_bytes()], ids=["png", "tiff"])
@MANY
@given(data=st.data())
def test_damaged_images(whole, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "a.png"
    path.write_bytes(data.draw(damaged(whole)))
    read_or_refuse(read_image, path)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "whole", [tar_bytes("w"), tar_bytes("w:gz"), zip_bytes()], ids=["tar", "tar.gz", "zip"]
)
@MANY
@given(data=st.data())
def test_damaged_archives(whole, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    (folder / "archive").write_bytes(data.draw(damaged(whole)))
    (folder / "below").mkdir()
    found = read_or_refuse(extract, folder / "archive", folder / "below" / "content")
    assert {path.name for path in folder.iterdir()} == {"archive", "below"}
    inside = {path.name for path in (folder / "below").iterdir()}
    assert inside == ({"content"} if found else set())


DESCRIPTION = {
    "name": "a",
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "organ"},
    "numTraining": 1,
    "training": [{"image": "./imagesTr/a.nii", "label": "./labelsTr/a.nii"}],
}
ODD = st.sampled_from(
    [None, [], {}, "", "\x00", "\ud800", "²", -1, 1e999, 10**4000, True, "../a", "/a", "a" * 300]
)


@st.composite
def odd_description(draw):
    content = json.loads(json.dumps(DESCRIPTION))
    for _ in range(draw(st.integers(1, 3))):
        table = draw(st.sampled_from([content, content["modality"], content["labels"]]))
        if isinstance(content.get("training"), list) and content["training"]:
            entry = content["training"][0]
            table = draw(st.sampled_from([table, entry if isinstance(entry, dict) else table]))
        if isinstance(table, dict):
            key = draw(st.sampled_from([*table, "²", "0x1", "-1", "1" * 300, "\x00"]))
            if key not in ("modality", "labels"):
                table[key] = draw(ODD)
    return json.dumps(content).encode()


@pytest.mark.exhaustive
@MANY
@given(content=odd_description() | damaged(json.dumps(DESCRIPTION).encode()))
def test_damaged_descriptions(content, tmp_path_factory):
    root = tmp_path_factory.mktemp("described")
    for part in ("imagesTr", "labelsTr"):
        (root / part).mkdir()
        (root / part / "a.nii").write_bytes(nifti_bytes())
    (root / "dataset.json").write_bytes(content)
    task = read_or_refuse(load_msd, root)
    if task is not None:
        for case in task.test:
            read_or_refuse(task.read, case)


@pytest.mark.parametrize(
    ("at", "number", "message"),
    [
        (72, 32, "int16 with 32 bits per voxel, expected 16"),  # bitpix
        (46, 2, "has more than the 120 bytes"),  # dim[3] was 4
    ],
)
def test_a_header_that_contradicts_its_voxels_is_refused(at, number, message, tmp_path):
    (tmp_path / "a.nii").write_bytes(nifti_bytes(at, number))
    with pytest.raises(DataError, match=message):
        read_nifti(tmp_path / "a.nii")


def test_one_byte_after_the_voxels_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti_bytes() + b"\0"))
    with pytest.raises(DataError, match="has more than the 240 bytes"):
        read_nifti(tmp_path / "a.nii.gz")


def test_a_volume_takes_its_own_size_in_memory_and_one_piece(tmp_path):
    """64 MiB of float64 scaled to 32 MiB of float32: once, not as bytes, float64 and masks."""
    shape = (256, 256, 128)
    image = nib.nifti1.Nifti1Image(np.zeros((1, 1, 1)), np.eye(4))
    image.header["dim"] = [3, *shape, 1, 1, 1, 1]
    image.header["scl_slope"], image.header["scl_inter"] = 2.0, 1.0
    with gzip.open(tmp_path / "a.nii.gz", "wb", compresslevel=1) as file:
        file.write(image.header.binaryblock + bytes(4))
        file.write(bytes(8 * 256 * 256 * 128))
    tracemalloc.start()
    volume = read_nifti(tmp_path / "a.nii.gz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert volume.data.shape == shape
    assert (volume.data == 1).all()
    assert peak < 1.5 * volume.data.nbytes


def test_eight_bytes_a_voxel_count_twice(tmp_path):
    image = nib.nifti1.Nifti1Image(np.zeros((4, 4, 4), np.int64), np.eye(4), dtype=np.int64)
    nib.save(image, tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii", max_voxels=128).data.dtype == np.int64
    with pytest.raises(DataError, match=r"64 voxels .* limit of 63 of int64"):
        read_nifti(tmp_path / "a.nii", max_voxels=127)


@pytest.mark.parametrize("read", [read_image, read_nifti])
def test_a_pipe_or_a_device_as_an_image_is_refused(read, tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "zero.nii").symlink_to("/dev/zero")
    for name in ("pipe.nii", "zero.nii"):
        with pytest.raises(DataError, match=rf"{name}: expected a file, found a .*pipe or device"):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["a\0b.nii", "a\ud800b.nii"])
def test_a_path_that_no_file_can_have_is_refused(name, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_nifti(tmp_path / name)


def test_digits_of_other_scripts_are_ordered_as_text():
    assert sorted(["scan_10", "scan_2", "scan_²", "scan_٣"], key=natural_order)[:2] == [
        "scan_2",
        "scan_10",
    ]


def write_description(root, **changes):
    for part in ("imagesTr", "labelsTr"):
        (root / part).mkdir(exist_ok=True)
        (root / part / "a.nii").write_bytes(nifti_bytes())
    (root / "dataset.json").write_text(json.dumps(DESCRIPTION | changes))
    return root


@pytest.mark.parametrize("image", ["./imagesTr/a\0.nii", "./imagesTr/\ud800.nii"])
def test_a_description_with_a_name_that_no_file_can_have_is_refused(image, tmp_path):
    entry = {"image": image, "label": "./labelsTr/a.nii"}
    root = write_description(tmp_path, training=[entry])
    with pytest.raises(DataError, match=r"dataset\.json: the text .* holds"):
        load_msd(root)


def test_a_description_nested_too_deeply_is_refused(tmp_path):
    write_description(tmp_path)
    (tmp_path / "dataset.json").write_text("[" * 10_000 + "]" * 10_000)
    with pytest.raises(DataError, match=r"dataset\.json: nested more than 64 deep"):
        load_msd(tmp_path)


def test_more_classes_than_a_label_can_hold_are_refused(tmp_path):
    names = {"0": "background"} | {str(n): f"part {n}" for n in range(1, 300)}
    with pytest.raises(ConfigError, match="classes: expected at most 255, got 299"):
        load_msd(write_description(tmp_path, labels=names))
    files = {"images": ["a.nii"], "label": "a.nii"}
    with pytest.raises(ConfigError, match="at most 255, got 256"):
        load_nifti(tmp_path, classes={f"part {n}": n for n in range(1, 257)}, **files)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_cut_anywhere_is_whole_or_refused(mode, tmp_path):
    whole = tar_bytes(mode)
    (tmp_path / "whole").write_bytes(whole)
    extract(tmp_path / "whole", tmp_path / "expected")
    expected = contents(tmp_path / "expected")
    refused = 0
    for length in range(1, len(whole), len(whole) // 80):
        (tmp_path / "cut").write_bytes(whole[:length])
        try:
            extract(tmp_path / "cut", tmp_path / "found")
        except DataError:
            refused += 1
        else:
            assert contents(tmp_path / "found") == expected
            assert length % 512 == 0
            shutil.rmtree(tmp_path / "found")
    assert refused > 10


def test_a_tar_with_a_damaged_header_inside_is_refused(tmp_path):
    content = bytearray(tar_bytes("w"))
    second = content.index(b"a/two.bin")
    content[second + 150] ^= 1  # in its checksum
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match="damaged archive"):
        extract(tmp_path / "a.tar", tmp_path / "found")
    assert not (tmp_path / "found").exists()


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
