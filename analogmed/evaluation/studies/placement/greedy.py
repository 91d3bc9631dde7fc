"""Greedy search for a digital-layer placement, with every candidate set run on the chips."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
from torch import nn

from analogmed.data import Task
from analogmed.evaluation.studies.sensitivity.ablations import AblationSetting
from analogmed.evaluation.studies.sensitivity.compute import AblationPlan, ablation_rounds
from analogmed.evaluation.studies.sensitivity.ranking import rank
from analogmed.evaluation.studies.sensitivity.settings import PlacementConfig
from analogmed.execution.plans import Rounds
from analogmed.hardware import Cost, Profile, estimate, map_tiles

Row = dict[str, Any]
OBJECTIVES = {"latency": "latency_ms", "energy": "energy_mj"}
"""Objectives of a placement, each with its column in the table of steps."""


class Costs:
    """Cost estimates of the network with some layers digital, on the tiles of the profile."""

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
        """Estimate the cost of the network with these layers digital."""
        mapped = map_tiles(
            self.network,
            self.shape,
            self.profile.tile_size,
            row_split=self.config.row_split,
            digital_layers=[*self.left_digital, *sorted(digital)],
            row_copies=self.config.hardware.row_copies,
        )
        return estimate(mapped, self.profile, self.config.level)

    def objective(self, digital: frozenset[str]) -> float:
        """Return the objective to minimise: seconds or joules of one slice."""
        cost = self.of(digital)
        return cost.latency_s if self.config.objective == "latency" else cost.stack_j(1)


class Search:
    """Greedy search over placements, starting with the fully analog network.

    Attributes:
        steps: evaluated placements, in order.
        digital: layers of the present placement that are digital.
        drop: loss of the primary metric of the present placement at the worst time.
    """

    def __init__(
        self,
        config: PlacementConfig,
        plan: AblationPlan,
        layers: tuple[str, ...],
        costs: Costs,
        ranking: pd.DataFrame,
    ) -> None:
        self.config, self.plan, self.layers, self.costs = config, plan, layers, costs
        self.regained = _by_layer_and_time(ranking, "only_digital")
        self.lost_alone = _by_layer_and_time(ranking, "only_analog")
        self.start = costs.objective(frozenset())
        self.added: dict[str, float] = {
            name: costs.objective(frozenset({name})) - self.start
            for name in layers
            if len(layers) > 1
        }
        self.steps: list[Row] = []
        self.seen: set[frozenset[str]] = set()
        self.digital: frozenset[str] = frozenset()
        self.drop = math.inf

    def run(self) -> Rounds[list[Row]]:
        """Yield the units of each placement that the search tries; return the steps."""
        yield from self._run(frozenset(), "")
        self._keep(frozenset())
        yield from self._forward()
        yield from self._back()
        return self.steps

    def _forward(self) -> Rounds[None]:
        """Make layers digital, in the order of what they regain per added cost."""
        for name in sorted(self.added, key=self._worth, reverse=True):
            enough = self.drop <= self.config.loss and not self.config.whole_curve
            last_on_tiles = len(self.digital) == len(self.layers) - 1
            if last_on_tiles or (enough and self.added[name] > 0):
                continue
            before = self.drop
            step = yield from self._run(self.digital | {name}, name)
            saves = self.added[name] <= 0 and step["drop"] <= self.config.loss
            if step["drop"] < before or saves:
                self._keep(self.digital | {name})

    def _back(self) -> Rounds[None]:
        """Return layers of the cheapest accepted set to tiles while the drop is accepted."""
        accepted = [step for step in self.steps if step["drop"] <= self.config.loss]
        if not accepted:
            return
        cheapest = min(accepted, key=lambda step: step[OBJECTIVES[self.config.objective]])
        digital = frozenset(filter(None, cheapest["digital"].split(";")))
        for name in sorted(digital, key=lambda name: (-self.added[name], name)):
            fewer = digital - {name}
            if self.added[name] <= 0 or fewer in self.seen:
                continue
            step = yield from self._run(fewer, f"{name} back")
            if step["drop"] <= self.config.loss:
                digital = fewer
                self._keep(fewer)

    def _worth(self, name: str) -> tuple[bool, float]:
        """Return what a layer regains per added cost, the mean of its two effects.

        The effects are that of the only digital layer and that of the only analog layer.
        """
        effects = pd.concat([self.regained.loc[name], self.lost_alone.loc[name]], axis=1)
        gain, added = float(effects.mean(axis=1).max()), self.added[name]
        return (True, -added) if added <= 0 else (False, gain / added)

    def _run(self, digital: frozenset[str], moved: str) -> Rounds[Row]:
        """Yield the units of one placement; return its step."""
        setting = AblationSetting("placement", moved, self.config.hardware, digital)
        table = yield from ablation_rounds(self.plan, [setting])
        drops = rank(table, metric=self.config.primary_metric, seed=self.config.seed)
        if not digital:
            self.all_analog = drops.set_index("time_s")["drop"]
        worst = drops.sort_values("drop").iloc[-1]
        cost = self.costs.of(digital)
        known = cost.profile.digital_pj_per_mac is not None or not cost.mapped.digital_macs
        step: Row = {
            "step": len(self.steps),
            "layer": moved,
            "digital_layers": len(digital),
            "digital": ";".join(name for name in self.layers if name in digital),
            **{name: float(worst[name]) for name in ("drop", "drop_low", "drop_high")},
            "worst_time_s": float(worst["time_s"]),
            "predicted_drop": self._predicted(digital),
            "latency_ms": 1e3 * cost.latency_s,
            "interval_ms": 1e3 * cost.interval_s,
            "energy_mj": 1e3 * cost.stack_j(1) if known else math.nan,
            "tiles": cost.tiles,
            "uncosted_layers": len(cost.untimed_layers),
            "kept": False,
            **{name: worst[name] for name in ("n_patients", "n_chips", "level")},
        }
        self.steps.append(step)
        self.seen.add(digital)
        return step

    def _keep(self, digital: frozenset[str]) -> None:
        self.steps[-1]["kept"] = True
        self.digital, self.drop = digital, self.steps[-1]["drop"]

    def _predicted(self, digital: frozenset[str]) -> float:
        """Predict the drop from single-layer effects, at the worst time.

        The prediction is the drop of the fully analog network minus what each digital layer
        regains.
        """
        left = self.all_analog
        for name in sorted(digital):
            left = left - self.regained.loc[name].reindex(left.index)
        return float(left.max())


def _by_layer_and_time(ranking: pd.DataFrame, setting: str) -> pd.DataFrame:
    rows = ranking[ranking["setting"] == setting]
    return rows.pivot(index="subject", columns="time_s", values="effect")
