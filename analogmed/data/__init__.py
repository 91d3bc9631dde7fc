"""From files on disk to cases that a network can take: loaders, checks, splits, phantoms.

One file per source (``lgg``, ``dsb2018``, ``msd``, ``nifti_folder``), all behind ``load_task``.
"""

from analogmed.data.case import Case, Sample, Task
from analogmed.data.dsb2018 import count_overlaps, load_dsb2018
from analogmed.data.images import read_image
from analogmed.data.lgg import load_lgg
from analogmed.data.msd import load_msd
from analogmed.data.nifti import Volume, read_nifti, read_to_end
from analogmed.data.nifti_folder import load_brats, load_nifti
from analogmed.data.normalise import ct_window, resize_image, resize_label, z_score
from analogmed.data.splits import (
    check_duplicates,
    check_leakage,
    find_duplicates,
    split_by_patient,
    split_from_file,
)
from analogmed.data.tasks import load_task, task_names

__all__ = [
    "Case",
    "Sample",
    "Task",
    "Volume",
    "check_duplicates",
    "check_leakage",
    "count_overlaps",
    "ct_window",
    "find_duplicates",
    "load_brats",
    "load_dsb2018",
    "load_lgg",
    "load_msd",
    "load_nifti",
    "load_task",
    "read_image",
    "read_nifti",
    "read_to_end",
    "resize_image",
    "resize_label",
    "split_by_patient",
    "split_from_file",
    "task_names",
    "z_score",
]
