"""Facts of the ten tasks of the Medical Segmentation Decathlon, from their ``dataset.json``.

Source: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9; http://medicaldecathlon.com
"""

from dataclasses import dataclass

from analogmed.data.volumes import SOFT_TISSUE_HU


@dataclass(frozen=True)
class MsdTask:
    """Facts of one task.

    Attributes:
        folder: name of its folder.
        short_name: name for users.
        modalities: modality of each channel, in order.
        classes: names of labels 1, 2, ...
        window_3d: input size of 3D networks, (D, H, W).
        window_2d: input size of networks on axial slices, (H, W).
        ct_window_hu: relevant range of CT values in HU.
    """

    folder: str
    short_name: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    window_3d: tuple[int, int, int] = (96, 96, 96)
    window_2d: tuple[int, int] = (256, 256)
    ct_window_hu: tuple[float, float] = SOFT_TISSUE_HU


MSD_TASKS = (
    MsdTask(
        "Task01_BrainTumour",
        "brain_tumour",
        ("FLAIR", "T1w", "t1gd", "T2w"),
        ("edema", "non-enhancing tumor", "enhancing tumour"),
    ),
    MsdTask("Task02_Heart", "heart", ("MRI",), ("left atrium",)),
    MsdTask("Task03_Liver", "liver", ("CT",), ("liver", "cancer")),
    MsdTask(
        "Task04_Hippocampus",
        "hippocampus",
        ("MRI",),
        ("Anterior", "Posterior"),
        window_3d=(48, 64, 48),
        window_2d=(64, 64),
    ),
    MsdTask("Task05_Prostate", "prostate", ("T2", "ADC"), ("PZ", "TZ"), window_3d=(16, 256, 256)),
    MsdTask("Task06_Lung", "lung", ("CT",), ("cancer",), ct_window_hu=(-1350.0, 150.0)),
    MsdTask("Task07_Pancreas", "pancreas", ("CT",), ("pancreas", "cancer")),
    MsdTask("Task08_HepaticVessel", "hepatic_vessel", ("CT",), ("Vessel", "Tumour")),
    MsdTask("Task09_Spleen", "spleen", ("CT",), ("spleen",)),
    MsdTask("Task10_Colon", "colon", ("CT",), ("colon cancer primaries",)),
)


def known_msd_task(name: str) -> MsdTask | None:
    """Return the task with a folder name or short name; ``None`` if there is none."""
    for task in MSD_TASKS:
        if name in (task.folder, task.short_name):
            return task
    return None
