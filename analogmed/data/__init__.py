"""Data sets: loading, validation, splits and phantoms.

Each source has one module (``lgg``, ``dsb2018``, ``msd``, ``nifti_folder``); ``load_task`` is the
common interface.
"""

from typing import TYPE_CHECKING

from analogmed.foundation.exports import lazy_exports

if TYPE_CHECKING:
    from analogmed.data.case import Case as Case
    from analogmed.data.case import Sample as Sample
    from analogmed.data.case import Task as Task
    from analogmed.data.datasets.dsb2018 import count_overlaps as count_overlaps
    from analogmed.data.datasets.dsb2018 import load_dsb2018 as load_dsb2018
    from analogmed.data.datasets.lgg import load_lgg as load_lgg
    from analogmed.data.datasets.msd import load_msd as load_msd
    from analogmed.data.datasets.nifti_folder import load_brats as load_brats
    from analogmed.data.datasets.nifti_folder import load_nifti as load_nifti
    from analogmed.data.normalise import ct_window as ct_window
    from analogmed.data.normalise import resize_image as resize_image
    from analogmed.data.normalise import resize_label as resize_label
    from analogmed.data.normalise import z_score as z_score
    from analogmed.data.readers.images import read_image as read_image
    from analogmed.data.readers.nifti import Volume as Volume
    from analogmed.data.readers.nifti import read_nifti as read_nifti
    from analogmed.data.readers.nifti import read_to_end as read_to_end
    from analogmed.data.splits import check_duplicates as check_duplicates
    from analogmed.data.splits import check_leakage as check_leakage
    from analogmed.data.splits import find_duplicates as find_duplicates
    from analogmed.data.splits import split_by_patient as split_by_patient
    from analogmed.data.splits import split_from_file as split_from_file
    from analogmed.data.tasks import load_task as load_task
    from analogmed.data.tasks import task_names as task_names

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Case": "case",
        "Sample": "case",
        "Task": "case",
        "Volume": "readers.nifti",
        "check_duplicates": "splits",
        "check_leakage": "splits",
        "count_overlaps": "datasets.dsb2018",
        "ct_window": "normalise",
        "find_duplicates": "splits",
        "load_brats": "datasets.nifti_folder",
        "load_dsb2018": "datasets.dsb2018",
        "load_lgg": "datasets.lgg",
        "load_msd": "datasets.msd",
        "load_nifti": "datasets.nifti_folder",
        "load_task": "tasks",
        "read_image": "readers.images",
        "read_nifti": "readers.nifti",
        "read_to_end": "readers.nifti",
        "resize_image": "normalise",
        "resize_label": "normalise",
        "split_by_patient": "splits",
        "split_from_file": "splits",
        "task_names": "tasks",
        "z_score": "normalise",
    },
)
