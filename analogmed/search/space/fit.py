"""Check that the networks of a search space can process the images of a task."""

from analogmed.data import Task
from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.models import Genotype, Level
from analogmed.models.genotype import block
from analogmed.models.subnet import check_size
from analogmed.search.space.space import Space


def check_space_fits(space: Space, task: Task) -> None:
    """Raise an error if a network of a space cannot process the window of a task.

    Raises:
        ConfigError: names the dimensions, the purpose, or the depth and the window.
    """
    if space.spatial_dims != task.spatial_dims:
        raise ConfigError(
            f"space.spatial_dims: expected {task.spatial_dims} for task {task.name}, got "
            f"{space.spatial_dims}. Set it, or task.spatial_dims where the data can be both."
        )
    if space.purpose != task.kind.purpose:
        raise ConfigError(
            f"space.purpose: expected {task.kind.purpose} for task {task.name}, got "
            f"{space.purpose}. Set it."
        )
    depth = max(space.depths)
    try:
        check_size(_strictest(space, depth), task.window)
    except ShapeError as error:
        raise ConfigError(
            f"space.depths: networks of {depth} levels do not fit task {task.name}; expected a "
            f"window with sizes divisible by {2 ** (depth - 1)} that leaves more than one position "
            f"at the deepest level, got {list(task.window)}. Leave out these depths, or set "
            "task.size or task.options.window."
        ) from error


def _strictest(space: Space, depth: int) -> Genotype:
    """Return a network of a depth, with blocks that normalise if the space has any."""
    weighted = [name for name in space.blocks if block(name).kind != "identity"]
    worst = max(weighted, key=lambda name: any(each.norm for each in block(name).convolutions))
    level = Level(worst, min(space.widths), min(space.kernels))
    return Genotype((level,) * depth, space.spatial_dims, space.purpose)
