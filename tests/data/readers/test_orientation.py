"""Volumes of different axis order and direction reach a network in one orientation."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from analogmed.data.datasets.msd import load_msd
from analogmed.data.datasets.nifti_folder import load_nifti
from analogmed.data.integrity import verify
from analogmed.foundation.errors import ConfigError

RAS_AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
CODES = ("RAS", "LPS", "SRA", "PIR", "ASL")
OPTIONS = {"images": ["*_img.nii.gz"], "label": "*_seg.nii.gz", "classes": {"organ": 1}}


def anatomy():
    """Image and label (X, Y, Z) with axes along RAS; no axis or direction looks like another."""
    image = np.random.default_rng(0).normal(100, 10, (10, 12, 8)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    label[7:9, 2:5, 3:6] = 1
    return image, label


def save_as(path, data, codes):
    """Write RAS data with other file axes, by nibabel's own transform."""
    transform = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    affine = RAS_AFFINE @ inv_ornt_aff(transform, data.shape)
    assert "".join(nib.aff2axcodes(affine)) == codes
    nib.save(nib.Nifti1Image(nib.apply_orientation(data, transform), affine), path)


@pytest.fixture
def write(tmp_path):
    def write_cases(codes):
        image, label = anatomy()
        for number, code in enumerate(codes):
            case = tmp_path / f"p{number}"
            case.mkdir()
            save_as(case / f"p{number}_img.nii.gz", image, code)
            save_as(case / f"p{number}_seg.nii.gz", label, code)
        return tmp_path

    return write_cases


def samples(root, **options):
    task = load_nifti(root, **OPTIONS, **options)
    cases = sorted(task.train + task.validation + task.test, key=lambda case: case.case_id)
    return [task.read(case) for case in cases]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_one_anatomy_is_one_sample_however_its_axes_lie_in_the_file(write, spatial_dims):
    first, *others = samples(write(CODES), spatial_dims=spatial_dims, intensity="none")
    image, label = anatomy()
    squeezed = first.image[:, 0] if spatial_dims == 2 else first.image[0, 0]
    np.testing.assert_array_equal(squeezed, image.transpose(2, 1, 0))
    np.testing.assert_array_equal(first.label.reshape(label.T.shape), label.transpose(2, 1, 0))
    assert first.spacing == (2.0, 1.0, 1.0)
    for other in others:
        np.testing.assert_array_equal(other.image, first.image)
        np.testing.assert_array_equal(other.label, first.label)
        assert other.spacing == first.spacing


def test_orientation_file_keeps_the_axes_of_the_file(write):
    found = samples(write(["LPS", "SRA"]), orientation="file", intensity="none")
    image, _ = anatomy()
    np.testing.assert_array_equal(found[0].image[0, 0], image[::-1, ::-1].T)
    np.testing.assert_array_equal(found[1].image[0, 0], image.transpose(2, 0, 1).T)
    assert found[1].spacing == (1.0, 1.0, 2.0)


def test_several_channels_in_one_file_are_turned_with_it(tmp_path):
    image, label = anatomy()
    save_as(tmp_path / "a_img.nii.gz", np.stack([image, -image], axis=-1), "PIR")
    save_as(tmp_path / "a_seg.nii.gz", label, "PIR")
    (found,) = samples(tmp_path, channels=["a", "b"], intensity="none")
    np.testing.assert_array_equal(found.image[0], np.stack([image.T, -image.T]))


def test_an_unknown_orientation_is_refused_with_the_known_ones(write):
    with pytest.raises(ConfigError, match=r"orientation.*'ras'.*'file'.*LPI"):
        samples(write(["RAS"]), orientation="LPI")


def warnings_of(report):
    return " ".join(finding.what for finding in report.warnings if finding.path == report.path)


def test_verify_reports_that_the_orientation_differs_between_cases(write):
    report = verify(write(["RAS", "RAS", "LPS"]))
    assert report.ok
    assert "RAS (2 cases), LPS (1 case, for instance p2)" in warnings_of(report)
    assert "orientation: file" in " ".join(finding.hint for finding in report.warnings)


def test_verify_reports_nothing_of_a_set_of_one_orientation_and_spacing(write):
    assert warnings_of(verify(write(["LPS", "LPS"]))) == ""


def test_verify_reports_that_the_spacing_differs_by_more_than_a_factor_of_two(write, tmp_path):
    root = write(["RAS", "SRA"])  # 2 mm along another axis of the file, not of the body
    assert "voxel size" not in warnings_of(verify(root))
    image, label = anatomy()
    (root / "thick").mkdir()
    for name, data in (("thick_img.nii.gz", image), ("thick_seg.nii.gz", label)):
        nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.0, 5.0, 1.0])), root / "thick" / name)
    found = warnings_of(verify(root))
    assert "voxel size" in found
    assert "1 x 1 x 2 mm (case p0)" in found
    assert "1 x 1 x 5 mm (case thick)" in found


def test_the_hippocampus_is_read_as_before(shared_data):
    with pytest.warns(UserWarning, match=r"dataset\.json: missing"):
        task = load_msd(shared_data / "Task04_Hippocampus", intensity="none")
    for case in task.test[:3]:
        stored = np.asarray(nib.load(case.images[0]).dataobj, dtype=np.float32)
        assert task.read(case).image[0, 0].tobytes() == np.ascontiguousarray(stored.T).tobytes()
