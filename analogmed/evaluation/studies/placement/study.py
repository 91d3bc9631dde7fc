"""Choice of the digital layers for minimum latency or energy at an accepted drop.

The search is greedy: layers become digital in the order of what they regain of the primary metric
per added cost. Every set of digital layers is run on the chips, since the drops of single layers
are not additive. Once the drop is accepted, each digital layer is tried on its tiles again, the
most expensive first.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from analogmed.evaluation.preparation import prepare
from analogmed.evaluation.studies.placement.greedy import OBJECTIVES, Costs, Row, Search
from analogmed.evaluation.studies.sensitivity.ablations import list_ablations
from analogmed.evaluation.studies.sensitivity.compute import (
    AblationCompute,
    AblationPlan,
    ablation_rounds,
    layers_on_tiles,
)
from analogmed.evaluation.studies.sensitivity.ranking import rank
from analogmed.evaluation.studies.sensitivity.settings import PlacementConfig
from analogmed.evaluation.unit_runs import describe_reuse, open_store, run_units
from analogmed.execution.plans import Rounds
from analogmed.execution.run_folder import RunFolder, in_run_folder
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.settings.forms import takes_keywords
from analogmed.foundation.settings.paths import read_plain_settings, with_paths_from
from analogmed.foundation.settings.plain import to_plain
from analogmed.foundation.strict_yaml import dump_yaml
from analogmed.hardware import Profile, load_profile
from analogmed.metrics.registry import label_of
from analogmed.report import placement_curve
from analogmed.tables.sensitivity import PLACEMENTS, RANKING

PLACEMENT = "placement.yaml"
_FIGURE = "figures/placements.png"

_SHARED = (
    "task", "checkpoints", "hardware", "sweep", "calibration", "digital_layers", "row_split",
    "seed", "every_nth_slice",
)  # fmt: skip


@dataclass(frozen=True)
class PlacementResult:
    """Results of a search for a placement.

    Attributes:
        config: settings of the search.
        steps: one row per placement that was run, in order: ``layer`` that was moved, ``digital``
            (all digital layers), their number ``digital_layers``, ``drop`` at the worst time with
            its interval, ``predicted_drop`` from single layers, estimated ``latency_ms``,
            ``energy_mj`` and ``tiles``, and whether it was ``kept``, is on the ``pareto`` front of
            drop and objective, and was ``chosen``.
        ranking: ranking of the single layers.
        reuse: sentence about units that are reused from an earlier run; empty if all are new.
    """

    config: PlacementConfig
    steps: pd.DataFrame
    ranking: pd.DataFrame
    reuse: str = ""

    @property
    def chosen(self) -> pd.Series | None:
        """Cheapest step within the accepted drop; ``None`` if there is none."""
        rows = self.steps[self.steps["chosen"]]
        return None if rows.empty else rows.iloc[0]

    def verdict(self) -> str:
        """Return a sentence that describes the chosen placement."""
        step, loss = self.chosen, self.config.loss
        label = label_of(self.config.primary_metric)
        if step is None:
            return (
                f"no placement that was run has a drop of {loss:g} {label} or less; the smallest "
                f"drop is {self.steps['drop'].min():.3f}: accept more, train for the chip, or "
                "leave all layers digital"
            )
        names = str(step["digital"]) or "none"
        return (
            f"digital layers: {names}; {label} drop {step['drop']:.3f} ({step['drop_low']:.3f} to "
            f"{step['drop_high']:.3f}), accepted {loss:g}"
        )

    def write(self, folder: Path) -> None:
        """Write settings, tables, figure and, if there is one, the chosen placement.

        Raises:
            ConfigError: a file of such a name exists that no run has written.
        """
        run = _run_folder(folder)
        run.renew(self.config)
        run.write(RANKING, self.ranking)
        run.write(PLACEMENTS, self.steps)
        placement_curve(self.steps, folder / _FIGURE, metric=self.config.primary_metric)
        if self.chosen is not None:
            write_text_atomically(folder / PLACEMENT, dump_yaml(self._placement()))

    def _placement(self) -> dict[str, object]:
        step, config = self.chosen, self.config
        assert step is not None
        names = ("drop", "drop_low", "drop_high", "worst_time_s", "latency_ms", "energy_mj")
        found = {name: _plain(step[name]) for name in names}
        start = {name: _plain(self.steps[name].iloc[0]) for name in names}
        settings = ("loss", "objective", "profile", "level", "seed", "row_split")
        return {
            "digital_layers": [
                *(config.digital_layers or ()),
                *filter(None, step["digital"].split(";")),
            ],
            "provenance": {
                "made_by": f"analogmed {version('analogmed')}",
                "network": config.checkpoints[0].name,
                "task": config.task.own_name,
                "hardware": to_plain(config.hardware),
                **{name: getattr(config, name) for name in settings},
                "digital_gmac_per_s": config.digital_gmac_per_s,
                "digital_pj_per_mac": config.digital_pj_per_mac,
                "patients": int(step["n_patients"]),
                "chips": int(step["n_chips"]),
                "all_analog": start,
                "chosen": found,
            },
        }


def _run_folder(folder: Path) -> RunFolder:
    return RunFolder(folder, [RANKING, PLACEMENTS, _FIGURE], [PLACEMENT])


@takes_keywords
@in_run_folder
def place_layers(config: PlacementConfig) -> PlacementResult:
    """Choose the layers that stay digital, and write the run folder.

    Finished units (the digital run, or one chip with the settings of one hardware or with one
    placement) of an interrupted run are taken from the store.

    Args:
        config: network, chip, accepted drop and objective. Its fields can be given as keywords
            instead.

    Returns:
        All placements that were run.

    Raises:
        ConfigError: settings conflict, the profile does not define the processor for digital
            layers, or no placement is within the accepted drop (the tables are written).
        CoverageError: no layer of the network can be mapped onto a tile.
        KeyboardInterrupt: the run was interrupted; the message reports the number of stored units.
    """
    folder = config.folder
    _run_folder(folder).begin()
    profile = with_processor(config)
    store = open_store(config)
    prepared = prepare(config, networks="one")
    config, task, (checkpoint,) = prepared.config, prepared.task, prepared.checkpoints
    layers, left_digital = layers_on_tiles(checkpoint, config, task)
    costs = Costs(checkpoint.network, task, profile, config, left_digital)
    costs.of(frozenset())
    rounds = _rounds(config, AblationPlan(config, task, checkpoint), layers, costs)
    done = run_units(rounds, AblationCompute, config, task, store, cases=len(task.test))
    steps, ranking = done.value
    placed = PlacementResult(config, _judged(steps, config), ranking, describe_reuse(done, config))
    placed.write(folder)
    if placed.chosen is None:
        raise ConfigError(f"{placed.verdict()}; what was run: {folder}/placements.csv")
    return placed


def with_processor(config: PlacementConfig) -> Profile:
    """Return the profile with the processor for digital layers.

    Raises:
        ConfigError: neither the profile nor the settings define it, so that digital layers would
            have no cost.
    """
    assert config.profile is not None
    profile = load_profile(config.profile)
    profile.figures(config.level)
    for name in ("digital_gmac_per_s", "digital_pj_per_mac"):
        if (value := getattr(config, name)) is not None:
            profile = replace(profile, **{name: value})
    needed = {"latency": "digital_gmac_per_s", "energy": "digital_pj_per_mac"}[config.objective]
    if getattr(profile, needed) is None:
        raise ConfigError(
            f"profile '{profile.name}' does not describe the processor of digital layers, so that "
            f"their {config.objective} would be 0: give --{needed}, or a profile that has it"
        )
    return profile


def _rounds(
    config: PlacementConfig, plan: AblationPlan, layers: tuple[str, ...], costs: Costs
) -> Rounds[tuple[list[Row], pd.DataFrame]]:
    """Yield the units of the single layers, unless they are read, and of the search.

    Returns:
        Steps of the search, and ranking of the single layers.
    """
    if config.sensitivity is None:
        table = yield from ablation_rounds(plan, list_ablations(config, layers))
        ranking = rank(table, metric=config.primary_metric, seed=config.seed)
    else:
        ranking = _read_ranking(config, config.sensitivity, layers)
    steps = yield from Search(config, plan, layers, costs, ranking).run()
    return steps, ranking


def _read_ranking(config: PlacementConfig, folder: Path, layers: Iterable[str]) -> pd.DataFrame:
    """Return the ranking of single layers from the run folder of an earlier study."""
    earlier = read_plain_settings(folder / "experiment.yaml", PlacementConfig)
    own = with_paths_from(Path.cwd(), to_plain(config), PlacementConfig)
    different = [name for name in _SHARED if earlier.get(name) != own[name]]
    if different:
        raise ConfigError(
            f"{folder} was run with other settings ({', '.join(different)}): give the same, or "
            "leave --sensitivity out"
        )
    try:
        ranking = RANKING.read(folder)
    except OSError as error:
        raise ConfigError(f"cannot read {folder}/ranking.csv: {error}") from error
    looked_at = ranking.loc[ranking["setting"] == "only_analog", "subject"]
    missing = [name for name in layers if name not in set(looked_at)]
    if missing:
        raise ConfigError(f"{folder} did not look at layer '{missing[0]}'; look at all layers")
    return ranking


def _judged(steps: list[Row], config: PlacementConfig) -> pd.DataFrame:
    """Return the steps as a table that marks the Pareto front and the chosen placement."""
    table = pd.DataFrame(steps)
    objective = OBJECTIVES[config.objective]
    costs, drops = table[objective], table["drop"]
    table["pareto"] = [
        not (((costs <= c) & (drops < d)) | ((costs < c) & (drops <= d))).any()
        for c, d in zip(costs, drops, strict=True)
    ]
    accepted = table[table["drop"] <= config.loss].sort_values([objective, "drop"])
    table["chosen"] = table.index == (accepted.index[0] if len(accepted) else -1)
    settings = {"objective": config.objective, "loss": config.loss, "profile": config.profile}
    return table.assign(**settings, level_of_profile=config.level)


def _plain(value: object) -> float | None:
    number = float(str(value))
    return None if math.isnan(number) else number
