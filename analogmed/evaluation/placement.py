"""Which layers to leave digital, for the least latency or energy at an accepted loss of Dice.

Greedy: layers go digital in the order of the Dice that they regain per added cost, and every set of
digital layers is run on the chips, since losses of single layers do not add up. Once the loss is
accepted, each digital layer is tried back on its tiles, the costliest first.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from torch import nn
from tqdm import tqdm

from analogmed.atomic import ensure_writable, write_text_atomically
from analogmed.config import to_plain
from analogmed.data import Task
from analogmed.errors import ConfigError
from analogmed.evaluation.run_folder import write_table
from analogmed.evaluation.sensitivity import Bench, Setting
from analogmed.evaluation.sensitivity_config import PlacementConfig
from analogmed.evaluation.sensitivity_ranking import rank, to_settings_table
from analogmed.evaluation.sensitivity_run import look, prepare, write_run
from analogmed.hardware import Cost, Profile, estimate, load_profile, map_tiles
from analogmed.report import placement_curve
from analogmed.strict_yaml import read_yaml

Row = dict[str, Any]

_SHARED = (
    "task", "checkpoints", "hardware", "sweep", "calibration", "digital_layers", "row_split",
    "seed", "every_nth_slice",
)  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """What a search for a placement found.

    Attributes:
        config: its settings.
        steps: one row per placement that was run, in order: ``layer`` that was moved, ``digital``
            (all digital layers), their number ``digital_layers``, ``drop`` at the worst time with
            its interval, ``predicted_drop`` from single layers, estimated ``latency_ms``,
            ``energy_mj`` and ``tiles``, and whether it was ``kept``, is on the ``pareto`` front of
            drop and objective, and was ``chosen``.
        ranking: of the single layers.
    """

    config: PlacementConfig
    steps: pd.DataFrame
    ranking: pd.DataFrame

    @property
    def chosen(self) -> pd.Series | None:
        """The cheapest step within the accepted loss; ``None`` if there is none."""
        rows = self.steps[self.steps["chosen"]]
        return None if rows.empty else rows.iloc[0]

    def verdict(self) -> str:
        """What was chosen, in a sentence."""
        step, loss = self.chosen, self.config.loss
        if step is None:
            return (
                f"no placement that was run loses {loss:g} Dice or less; the least loss is "
                f"{self.steps['drop'].min():.3f}: accept more, train for the chip, or leave all "
                "layers digital"
            )
        names = str(step["digital"]) or "none"
        return (
            f"digital layers: {names}; Dice lost {step['drop']:.3f} ({step['drop_low']:.3f} to "
            f"{step['drop_high']:.3f}), accepted {loss:g}"
        )

    def write(self, folder: Path) -> None:
        """Write settings, tables, figure and, where one was found, the placement."""
        write_run(self.config, folder)
        write_table(self.ranking, folder, "ranking", parquet=False)
        write_table(self.steps, folder, "placements", parquet=False)
        placement_curve(self.steps, folder / "figures" / "placements.png")
        path = folder / "placement.yaml"
        if self.chosen is None:
            path.unlink(missing_ok=True)
        else:
            write_text_atomically(path, yaml.safe_dump(self._placement(), sort_keys=False))

    def _placement(self) -> dict[str, object]:
        step, config = self.chosen, self.config
        assert step is not None
        names = ("drop", "drop_low", "drop_high", "worst_time_s", "latency_ms", "energy_mj")
        found = {name: _plain(step[name]) for name in names}
        start = {name: _plain(self.steps[name].iloc[0]) for name in names}
        settings = ("loss", "objective", "profile", "level", "seed", "row_split")
        return {
            "digital_layers": [*config.digital_layers, *filter(None, step["digital"].split(";"))],
            "provenance": {
                "made_by": f"analogmed {version('analogmed')}",
                "network": config.checkpoints[0].name,
                "task": config.task.name,
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


def place_layers(config: PlacementConfig) -> Placed:
    """Choose the layers that stay digital, and write the run folder.

    Args:
        config: network, chip, accepted loss and objective.

    Returns:
        all placements that were run.

    Raises:
        ConfigError: settings that do not fit each other; a profile that does not know the processor
            for digital layers; no placement within the accepted loss (the tables are written).
        CoverageError: nothing in the network can be put on a tile.
    """
    folder = ensure_writable(config.folder)
    profile = with_processor(config)
    config, checkpoint, task = prepare(config)
    bench = Bench(checkpoint, config, task)
    costs = _Costs(checkpoint.network, task, profile, config, bench.left_digital)
    costs.of(frozenset())
    ranking = _ranking(config, bench)
    search = _Search(config, bench, costs, ranking)
    search.forward()
    search.back()
    placed = Placed(config, _judged(search.steps, config), ranking)
    placed.write(folder)
    if placed.chosen is None:
        raise ConfigError(f"{placed.verdict()}; what was run: {folder}/placements.csv")
    return placed


def with_processor(config: PlacementConfig) -> Profile:
    """The profile with the processor for digital layers.

    Raises:
        ConfigError: neither the profile nor the settings know it, so that digital layers would be
            free.
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
            f"profile '{profile.name}' does not know the processor of digital layers, so that "
            f"their {config.objective} would be 0: give --{needed}, or a profile that has it"
        )
    return profile


class _Costs:
    """Estimates of the network with some layers digital, on the tiles of the profile."""

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        profile: Profile,
        config: PlacementConfig,
        left_digital: Iterable[str],
    ) -> None:
        self.network, self.profile, self.config = network, profile, config
        self.shape = (1, task.in_channels, *task.window)
        self.left_digital = tuple(left_digital)

    def of(self, digital: frozenset[str]) -> Cost:
        mapped = map_tiles(
            self.network,
            self.shape,
            self.profile.tile_size,
            row_split=self.config.row_split,
            digital=[*self.left_digital, *sorted(digital)],
        )
        return estimate(mapped, self.profile, self.config.level)

    def objective(self, digital: frozenset[str]) -> float:
        cost = self.of(digital)
        return cost.latency_s if self.config.objective == "latency" else cost.stack_j(1)


class _Search:
    """Placements run so far, and the best known."""

    def __init__(
        self, config: PlacementConfig, bench: Bench, costs: _Costs, ranking: pd.DataFrame
    ) -> None:
        self.config, self.bench, self.costs = config, bench, costs
        self.regained = _by_layer_and_time(ranking, "only_digital")
        self.lost_alone = _by_layer_and_time(ranking, "only_analog")
        self.digital_rows = bench.digital(lambda: None)
        self.start = costs.objective(frozenset())
        self.added: dict[str, float] = {
            name: costs.objective(frozenset({name})) - self.start
            for name in bench.layers
            if len(bench.layers) > 1
        }
        self.steps: list[Row] = []
        self.seen: set[frozenset[str]] = set()
        self.digital: frozenset[str] = frozenset()
        self.drop = math.inf
        self._run(frozenset(), "")
        self._keep(frozenset())

    def forward(self) -> None:
        """Layers go digital, those first that regain the most Dice for the least cost."""
        order = sorted(self.added, key=self._worth, reverse=True)
        for name in (progress := tqdm(order, desc="placements", disable=None)):
            enough = self.drop <= self.config.loss and not self.config.whole_curve
            last_on_tiles = len(self.digital) == len(self.bench.layers) - 1
            if last_on_tiles or (enough and self.added[name] > 0):
                continue
            before = self.drop
            step = self._run(self.digital | {name}, name)
            progress.set_postfix(drop=f"{step['drop']:.3f}")
            saves = self.added[name] <= 0 and step["drop"] <= self.config.loss
            if step["drop"] < before or saves:
                self._keep(self.digital | {name})

    def back(self) -> None:
        """Digital layers go back on their tiles as long as the loss is accepted."""
        if self.drop > self.config.loss:
            return
        costliest = sorted(self.digital, key=lambda name: (-self.added[name], name))
        for name in costliest:
            fewer = self.digital - {name}
            if self.added[name] <= 0 or fewer in self.seen:
                continue
            step = self._run(fewer, f"{name} back")
            if step["drop"] <= self.config.loss:
                self._keep(fewer)

    def _worth(self, name: str) -> tuple[bool, float]:
        """Dice regained per added cost: the mean of what it does alone and among all others."""
        effects = pd.concat([self.regained.loc[name], self.lost_alone.loc[name]], axis=1)
        gain, added = float(effects.mean(axis=1).max()), self.added[name]
        return (True, -added) if added <= 0 else (False, gain / added)

    def _run(self, digital: frozenset[str], moved: str) -> Row:
        setting = Setting("placement", moved, self.config.hardware, digital)
        rows = self.bench.run([setting], lambda: None)
        table = to_settings_table(self.digital_rows + rows)
        worst = rank(table, seed=self.config.seed).sort_values("drop").iloc[-1]
        cost = self.costs.of(digital)
        known = cost.profile.digital_pj_per_mac is not None or not cost.mapped.digital_macs
        step: Row = {
            "step": len(self.steps),
            "layer": moved,
            "digital_layers": len(digital),
            "digital": ";".join(name for name in self.bench.layers if name in digital),
            **{name: float(worst[name]) for name in ("drop", "drop_low", "drop_high")},
            "worst_time_s": float(worst["time_s"]),
            "predicted_drop": self._predicted(digital, table),
            "latency_ms": 1e3 * cost.latency_s,
            "interval_ms": 1e3 * cost.interval_s,
            "energy_mj": 1e3 * cost.stack_j(1) if known else math.nan,
            "tiles": cost.tiles,
            "uncosted_layers": len(cost.uncosted_layers),
            "kept": False,
            **{name: worst[name] for name in ("n_patients", "n_chips", "level")},
        }
        self.steps.append(step)
        self.seen.add(digital)
        return step

    def _keep(self, digital: frozenset[str]) -> None:
        self.steps[-1]["kept"] = True
        self.digital, self.drop = digital, self.steps[-1]["drop"]

    def _predicted(self, digital: frozenset[str], table: pd.DataFrame) -> float:
        """What single layers let expect: the loss of all less what each regains, at worst."""
        if not self.steps:
            drops = rank(table, n_boot=1, seed=self.config.seed).set_index("time_s")["drop"]
            self.all_analog = drops
        left = self.all_analog.copy()
        for name in digital:
            left = left - self.regained.loc[name].reindex(left.index)
        return float(left.max())


def _ranking(config: PlacementConfig, bench: Bench) -> pd.DataFrame:
    """Of the single layers: measured, or from the run folder of an earlier look."""
    folder = config.sensitivity
    if folder is None:
        return look(bench, config).ranking()
    earlier = read_yaml(folder / "experiment.yaml")
    own = to_plain(config)
    different = [name for name in _SHARED if earlier.get(name) != own[name]]
    if different:
        raise ConfigError(
            f"{folder} was run with other settings ({', '.join(different)}): give the same, or "
            "leave --sensitivity out"
        )
    try:
        ranking = pd.read_csv(folder / "ranking.csv").fillna({"subject": ""})
    except OSError as error:
        raise ConfigError(f"cannot read {folder}/ranking.csv: {error}") from error
    looked_at = ranking.loc[ranking["setting"] == "only_analog", "subject"]
    missing = [name for name in bench.layers if name not in set(looked_at)]
    if missing:
        raise ConfigError(f"{folder} did not look at layer '{missing[0]}'; look at all layers")
    return ranking


def _by_layer_and_time(ranking: pd.DataFrame, setting: str) -> pd.DataFrame:
    rows = ranking[ranking["setting"] == setting]
    return rows.pivot(index="subject", columns="time_s", values="effect")


def _judged(steps: list[Row], config: PlacementConfig) -> pd.DataFrame:
    """The steps as a table, with what is on the Pareto front and what was chosen."""
    table = pd.DataFrame(steps)
    objective = {"latency": "latency_ms", "energy": "energy_mj"}[config.objective]
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
