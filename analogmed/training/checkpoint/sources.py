"""Networks from which a training starts or learns, and the patients that they have seen."""

from collections.abc import Sequence
from pathlib import Path

from analogmed.data import Task
from analogmed.training.checkpoint.checkpoint import Checkpoint, load_checkpoint


def load_teacher(path: Path | None, task: Task) -> Checkpoint | None:
    """Return the network of a file that teaches on a task; ``None`` without a file.

    Raises:
        CheckpointError: the file is no checkpoint.
        ConfigError: its network does not fit the task.
    """
    if path is None:
        return None
    teacher = load_checkpoint(path)
    teacher.info.check_fits(task, teacher.path)
    return teacher


def patients_seen(task: Task, sources: Sequence[Checkpoint]) -> tuple[str, ...]:
    """Return the patients of a training and of the networks from which it starts or learns.

    Args:
        task: data of the training.
        sources: these networks.

    Raises:
        LeakageError: such a network has seen patients that this split keeps for testing.
    """
    seen = {case.patient_id for case in (*task.train, *task.validation)}
    tested = {case.patient_id for case in task.test}
    for source in sources:
        source.info.refuse_leakage(task, source.path)
        before = set(source.info.patients)
        if source.info.task == task.name or before & (seen | tested):
            seen |= before  # also of the same data under another name
    return tuple(sorted(seen))
