import gzip
import hashlib
import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from analogmed.data import load_dsb2018, load_lgg, load_msd
from analogmed.data.datasets.chestxray14 import LISTS, load_chestxray14
from analogmed.data.datasets.mitbih import load_mitbih
from analogmed.data.phantoms.fields import Grid, ellipsoid, rician
from analogmed.data.phantoms.nuclei import draw_field, hash_name
from analogmed.data.phantoms.write import PHANTOM_KINDS, write_phantom
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.seeds import derive_seed

LOADERS = {
    "brain": load_lgg,
    "spleen": load_msd,
    "nuclei": load_dsb2018,
    "chest": load_chestxray14,
    "ecg": partial(load_mitbih, leads=["II"]),
}
TABLES = {"phantom.json", "dataset.json", "data.csv", "Data_Entry_2017_v2020.csv", *LISTS}
"""Files that describe all patients of a phantom."""


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    return {kind: write_phantom(kind, root, n_patients=4, size=64) for kind in PHANTOM_KINDS}


@pytest.mark.parametrize("kind", PHANTOM_KINDS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(kind, tmp_path):
    first = write_phantom(kind, tmp_path / "a", seed=3, n_patients=2, size=48)
    again = write_phantom(kind, tmp_path / "b", seed=3, n_patients=2, size=48)
    other = write_phantom(kind, tmp_path / "c", seed=4, n_patients=2, size=48)
    assert contents(first) == contents(again)
    images = {
        digest
        for name, digest in contents(first).items()
        if "mask" not in name and name not in TABLES
    }
    assert images
    assert not images & set(contents(other).values())


@pytest.mark.parametrize("kind", PHANTOM_KINDS)
def test_a_patient_does_not_depend_on_how_many_there_are(kind, tmp_path):
    few = contents(write_phantom(kind, tmp_path / "few", n_patients=1, size=48))
    more = contents(write_phantom(kind, tmp_path / "more", n_patients=2, size=48))
    assert {n: d for n, d in few.items() if n not in TABLES}.items() <= more.items()


@pytest.mark.parametrize("kind", PHANTOM_KINDS)
def test_the_loader_of_the_real_data_reads_every_case(kind, small):
    task = LOADERS[kind](small[kind])
    cases = (*task.train, *task.validation, *task.test)
    assert len(cases) == 4
    for case in cases:
        sample = task.read(case)
        assert sample.image.shape[1] == task.in_channels
        assert np.isfinite(sample.image).all()
        assert (0 if task.kind.has_masks else -1) < sample.label.mean() < 0.6


def test_brain_files_have_the_form_of_the_real_ones(small, shared_data):
    real = next((shared_data / "lgg" / "kaggle_3m").glob("*/*_1.tif"))
    drawn = small["brain"] / "TCGA_PH_0001_20000101" / "TCGA_PH_0001_20000101_1.tif"
    for suffix in (".tif", "_mask.tif"):
        ours = tifffile.imread(drawn.with_name(drawn.stem + suffix))
        theirs = tifffile.imread(real.with_name(real.stem + suffix))
        assert (ours.dtype, ours.ndim, ours.shape[2:]) == (
            theirs.dtype,
            theirs.ndim,
            theirs.shape[2:],
        )
        assert suffix == ".tif" or set(np.unique(ours)) <= {0, 255}
    header = (small["brain"] / "data.csv").read_text().splitlines()[0]
    assert header == (real.parents[1] / "data.csv").read_text().splitlines()[0]


def test_nuclei_files_have_the_form_of_the_real_ones(small, shared_data):
    real = next((shared_data / "dsb2018" / "stage1_train").glob("*/images/*.png"))
    drawn = next(small["nuclei"].glob("*/images/*.png"))
    with Image.open(drawn) as ours, Image.open(real) as theirs:
        assert ours.mode == theirs.mode
    assert drawn.parents[1].name == drawn.stem
    assert len(drawn.stem) == len(real.stem)


def test_instance_masks_of_nuclei_do_not_overlap(small):
    for field in small["nuclei"].glob("*/masks"):
        masks = [np.array(Image.open(path)) > 0 for path in field.glob("*.png")]
        assert np.sum(masks, axis=0).max() == 1


def test_spleen_volumes_are_hounsfield_units_with_a_plain_affine(small):
    for path in (small["spleen"] / "imagesTr").iterdir():
        image = nib.load(path)
        values = np.asarray(image.dataobj)
        assert image.get_data_dtype() == np.int16
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert -1024 <= values.min() < -800
        assert 250 < values.max() <= 3071
        label = nib.load(str(path).replace("imagesTr", "labelsTr"))
        spleen = values[np.asarray(label.dataobj) == 1]
        # Portal venous phase: 100 to 130 HU is usual, 70 to 160 is possible.
        assert 60 < np.median(spleen) < 170


def test_the_spleen_lies_on_the_patients_left(small):
    for path in (small["spleen"] / "labelsTr").iterdir():
        label = nib.load(path)
        middle = np.argwhere(np.asarray(label.dataobj)).mean(axis=0)
        assert (label.affine @ [*middle, 1])[0] < 0


def test_compressed_volumes_carry_no_time(small):
    for path in (small["spleen"] / "imagesTr").iterdir():
        assert path.read_bytes()[4:8] == b"\0\0\0\0"
        assert gzip.decompress(path.read_bytes())


def test_the_default_brain_has_slices_with_and_without_tumour(tmp_path):
    folder = write_phantom("brain", tmp_path, n_patients=6)
    present = [tifffile.imread(path).any() for path in folder.glob("*/*_mask.tif")]
    assert 0.4 < np.mean(present) < 0.95


def test_a_phantom_that_is_there_is_not_written_again(tmp_path):
    folder = write_phantom("brain", tmp_path, n_patients=1, size=48)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_phantom("brain", tmp_path, n_patients=1, size=48) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_another_phantom_in_the_folder_is_left_as_it_is(tmp_path):
    folder = write_phantom("brain", tmp_path, n_patients=1, size=48)
    before = contents(folder)
    with pytest.raises(DataError, match=r"seed 0.*expected.*seed 1"):
        write_phantom("brain", tmp_path, seed=1, n_patients=1, size=48)
    assert contents(folder) == before


def test_an_outdated_phantom_is_replaced(tmp_path):
    folder = write_phantom("brain", tmp_path, n_patients=1, size=48)
    expected = contents(folder)
    marker = json.loads((folder / "phantom.json").read_text())
    (folder / "phantom.json").write_text(json.dumps({**marker, "version": 0}))
    (folder / "of_the_old_version.txt").touch()
    assert contents(write_phantom("brain", tmp_path, n_patients=1, size=48)) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["kaggle_3m"]


def test_real_data_is_never_taken_for_a_phantom(tmp_path):
    patient = tmp_path / "kaggle_3m" / "TCGA_CS_4941_19960909"
    patient.mkdir(parents=True)
    with pytest.raises(DataError, match="may be real data"):
        write_phantom("brain", tmp_path, n_patients=1, size=48)
    assert patient.is_dir()


def test_an_unreadable_marker_is_named(tmp_path):
    folder = write_phantom("brain", tmp_path, n_patients=1, size=48)
    (folder / "phantom.json").write_text("{")
    with pytest.raises(DataError, match=r"phantom\.json: unreadable"):
        write_phantom("brain", tmp_path, n_patients=1, size=48)


def test_a_killed_generation_leaves_nothing_under_the_name(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", GENERATE, str(tmp_path), "4000"])
    while not any(tmp_path.rglob("*.tif")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "kaggle_3m").exists()
    assert len(load_lgg(write_phantom("brain", tmp_path, n_patients=3, size=48)).train) > 0


@pytest.mark.slow
def test_processes_that_race_end_with_one_whole_phantom(tmp_path):
    command = [sys.executable, "-c", GENERATE, str(tmp_path), "3"]
    racers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    for racer in racers:
        assert racer.communicate()[1] == b""
        assert racer.returncode == 0
    alone = write_phantom("brain", tmp_path / "alone", n_patients=3, size=48)
    assert contents(tmp_path / "kaggle_3m") == contents(alone)
    assert {path.name for path in tmp_path.iterdir()} == {"kaggle_3m", "alone"}


GENERATE = """
import sys
from analogmed.data.phantoms.write import write_phantom
write_phantom("brain", sys.argv[1], n_patients=int(sys.argv[2]), size=48)
"""


def test_an_error_while_writing_leaves_nothing(tmp_path):
    root = tmp_path / "root"
    root.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="root"):
        write_phantom("brain", root, n_patients=1, size=48)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "heart"}, "expected one of brain, spleen, nuclei, chest"),
        ({"kind": "brain", "size": 16}, "size 16; expected 32 to 512"),
        ({"kind": "brain", "n_patients": 0}, "n_patients 0"),
        ({"kind": "brain", "seed": -1}, "seed -1"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        write_phantom(root=tmp_path, **wrong)
    assert not any(tmp_path.iterdir())


def test_noise_has_mean_0_deviation_1_and_the_asked_smoothness():
    grid = Grid((256, 256), (1.0, 1.0))
    fields = [grid.noise(np.random.default_rng(seed), 16.0) for seed in range(8)]
    assert np.mean(fields) == pytest.approx(0, abs=0.05)
    assert np.std(fields) == pytest.approx(1, abs=0.05)
    step = np.std(np.diff(fields, axis=1))
    # White noise up to the frequency f has the mean square slope (2 pi f)^2 / 3 along an axis.
    assert step == pytest.approx(2 * np.pi / 16 / np.sqrt(3), rel=0.1)


def test_the_distance_to_a_sphere_is_exact():
    grid = Grid((21, 21, 21), (1.0, 1.0, 1.0))
    x, y, z = grid.coordinates()
    distance = ellipsoid((x, y, z), (1, 2, 0), (6, 6, 6))
    exact = np.sqrt((x - 1) ** 2 + (y - 2) ** 2 + z**2) - 6
    np.testing.assert_allclose(distance, exact, atol=1e-3)


def test_rician_noise_without_signal_has_the_mean_of_rayleigh():
    noise = rician(np.zeros((400, 400), np.float32), np.random.default_rng(0), 3.0)
    assert noise.mean() == pytest.approx(3.0 * np.sqrt(np.pi / 2), rel=0.01)


def test_the_marker_tells_seed_version_and_parameters(small):
    marker = json.loads((Path(small["brain"]) / "phantom.json").read_text())
    assert marker == {"kind": "brain", "version": 1, "seed": 0, "n_patients": 4, "size": 64}


def test_small_fields_without_a_nucleus_are_drawn_again_and_the_others_kept(tmp_path):
    task = load_dsb2018(write_phantom("nuclei", tmp_path, n_patients=60, size=32))
    samples = [task.read(case) for case in task.train + task.validation + task.test]
    assert len(samples) == 60
    assert all(sample.label.any() for sample in samples)
    for index in (0, 59):
        image, instances = draw_field(derive_seed(0, "nuclei", index), 32)
        folder = tmp_path / "stage1_train" / hash_name(0, index)
        (path,) = (folder / "images").iterdir()
        np.testing.assert_array_equal(np.asarray(Image.open(path))[..., :3], image)
        assert len(list((folder / "masks").iterdir())) == instances.max()


def test_a_phantom_with_an_unlabelled_field_is_written_again(tmp_path):
    folder = write_phantom("nuclei", tmp_path, n_patients=3, size=48)
    masks = sorted(folder.glob("*/masks"))[0]
    kept = {path.name: path.read_bytes() for path in masks.iterdir()}
    for path in masks.iterdir():
        path.unlink()
    write_phantom("nuclei", tmp_path, n_patients=3, size=48)
    assert {path.name: path.read_bytes() for path in masks.iterdir()} == kept


@pytest.mark.parametrize("text", ["{", "[" * 10_000, '{"kind": "nuclei", "kind": "brain"}'])
def test_a_damaged_marker_is_refused(tmp_path, text):
    (tmp_path / "stage1_train").mkdir()
    (tmp_path / "stage1_train" / "phantom.json").write_text(text)
    with pytest.raises(DataError, match=r"phantom\.json: unreadable .*delete the folder"):
        write_phantom("nuclei", tmp_path, n_patients=1, size=32)
