"""Hardware cost of a network: tiles and, with a profile, time and energy of one slice."""

import warnings
from collections.abc import Callable
from functools import partial

from analogmed.analog import coverage
from analogmed.data import Task
from analogmed.evaluation.deploy import to_tiles
from analogmed.evaluation.session import Row
from analogmed.evaluation.settings import Experiment
from analogmed.hardware import TileMap, estimate, load_profile, map_tiles
from analogmed.tables.hardware import MEANS
from analogmed.training import Checkpoint


def cost_of(checkpoint: Checkpoint, experiment: Experiment, task: Task) -> Row:
    """Compute tiles, utilisation, reuse and coverage; with a profile, also time and energy.

    Warns about layers and weights that stay digital.

    Args:
        checkpoint: trained network.
        experiment: settings with hardware, digital layers and profile.
        task: task that defines the input window.

    Raises:
        ConfigError: the hardware or the layers do not fit the network.
        CoverageError: no layer of the network can be mapped onto a tile.
    """
    analog = to_tiles(checkpoint, experiment)
    shape = (1, task.in_channels, *task.window)
    covered = coverage(analog, shape)
    for warning in covered.warnings:
        warnings.warn(f"{checkpoint.info.model}: {warning}", stacklevel=3)
    lay = partial(
        map_tiles,
        checkpoint.network,
        shape,
        row_split=experiment.row_split,
        digital_layers=covered.digital_layers,  # includes layers that the conversion left digital
        row_copies=experiment.hardware.row_copies,
    )
    tiles = lay(experiment.hardware.tile_shape).summary()
    return {
        "model": checkpoint.info.model,
        "training": checkpoint.info.training,
        **{name: tiles[name] for name in _COSTS},
        "analog_weight_share": covered.weight_share,
        "analog_mac_share": covered.mac_share,
        **_estimates(lay, experiment),
    }


def _estimates(lay: Callable[[tuple[int, int]], TileMap], experiment: Experiment) -> Row:
    """Estimate time and energy of one slice on tiles of the profile's size, not the hardware's."""
    if experiment.profile is None:
        return {}
    profile = load_profile(experiment.profile)
    cost = estimate(lay(profile.tile_size), profile, experiment.level)
    own = cost.summary()
    return {
        "profile": profile.name,
        "profile_level": experiment.level,
        "profile_tile_size": " x ".join(map(str, profile.tile_size)),
        "estimated_tiles": cost.tiles,
        "estimated_utilisation": own["utilisation_placed"],
        "estimated_latency_ms": own["latency_ms"],
        "estimated_energy_mj": own["energy_mj"],
        "estimated_throughput_per_s": own["throughput_per_s"],
        "uncosted_layers": len(cost.uncosted_layers),
    }


_COSTS = ("parameters", "tiles", *MEANS)
