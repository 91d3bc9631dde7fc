"""Adaptation of a network on a frozen chip to one patient, with a few beats of this patient.

    python experiments/patient_adaptation.py runs/mitbih/digital runs/mitbih \\
        --task mitbih --task.root data/mitdb --sweep.chips 5 --sweep.times_s "1 day" --beats 100

The last layer of a network is computed digitally. For each test patient and chip, it is trained on
the first beats of the patient and the features that the chip computes for them; the chip itself
stays as it is. All beats after these are scored, with the layer as trained and as adapted.
A penalty on the change of the layer is chosen on the validation patients, without a chip. Settings
are those of `python -m analogmed.eval`. Writes adaptation.md and adaptation.csv into the folder of
--out.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from _programs import markdown, with_interval, write_table
from torch import Tensor, nn

from analogmed.cli.parse import parse
from analogmed.config import Experiment
from analogmed.data import Case, Task
from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.passes import Pass, chip_passes, predict_cases
from analogmed.evaluation.statistics import Interval, difference, two_way_bootstrap
from analogmed.evaluation.summaries.runs import present_structures
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.settings.checks import require_at_least_one
from analogmed.foundation.time_constants import time_label
from analogmed.kinds.kind import Scoring
from analogmed.metrics.properties import bounds_of, difference_bounds
from analogmed.metrics.registry import label_of
from analogmed.network.copy import copy_network
from analogmed.network.selection import multiplies_weight
from analogmed.network.walk import hooked
from analogmed.report.names import TRAINING_NAMES, model_name
from analogmed.training import Checkpoint, load_checkpoint

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
WAYS = ("as trained", "adapted")


@dataclass(frozen=True)
class AdaptationConfig(Experiment):
    """Adaptation of the last layer of networks to each patient, on chips that stay as they are.

    Attributes:
        beats: number of beats of a patient, the first ones, on which the last layer is trained.
    """

    beats: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_one("beats", self.beats)


@dataclass(frozen=True)
class Beats:
    """Features and classes of the beats of one patient in one pass.

    Attributes:
        case: the patient.
        features: inputs of the last layer, shape (N, features).
        label: class of each beat, as the kind of the task defines it.
    """

    case: Case
    features: Tensor
    label: np.ndarray


def main() -> None:
    """Adapt, then print and write the results."""
    config = parse(AdaptationConfig, sys.argv[1:], prog="experiments/patient_adaptation.py")
    out = config.out or Path("runs/patient_adaptation")
    task = config.task.load()
    config = config.for_task(task)
    networks = [load_checkpoint(path, factories=config.factories) for path in config.checkpoints]
    names = [(checkpoint.info.model, checkpoint.info.training) for checkpoint in networks]
    if len(set(names)) < len(names):
        raise ConfigError(
            "checkpoints: expected one network of each model and training, got "
            f"{', '.join(' '.join(name) for name in names)}"
        )
    scores = pd.concat([of_network(checkpoint, task, config) for checkpoint in networks])
    text = markdown(summary(scores, config.metrics))
    write_table(out, "adaptation", scores, text)
    print(f"{text}\ntables: {out}/")


def of_network(checkpoint: Checkpoint, task: Task, config: AdaptationConfig) -> pd.DataFrame:
    """Return the contributions of each patient to the scores, digitally and on all chips."""
    info = checkpoint.info
    digital = copy_network(checkpoint.network).to(config.device)
    head, layer = last_layer(digital)
    validation = list(beats_of(Pass.digital(digital), layer, task.validation, task, config))
    penalty = chosen_penalty(validation, layer, task, config)
    analog = make_analog(checkpoint, config, task)
    numbers = range(config.sweep.chips)
    on_chips = chip_passes(analog, config.sweep, model=info.model, seed=config.seed, chips=numbers)
    passes = chain([(Pass.digital(digital), digital)], ((one, analog) for one in on_chips))
    tables = []
    for one, network in passes:
        beats = list(beats_of(one, network.get_submodule(head), task.test, task, config))
        for way, strength in {"as trained": None, "adapted": penalty}.items():
            table = contributions(beats, layer, strength, task, config)
            tables.append(table.assign(way=way, time_s=one.time_s, chip=one.chip))
    found = pd.concat(tables)
    return found.assign(model=info.model, training=info.training, penalty=penalty)


def last_layer(network: nn.Module) -> tuple[str, nn.Linear]:
    """Return name and module of the last layer of a network.

    Raises:
        ConfigError: the network does not end with a Linear layer that has a bias.
    """
    layers = [(name, each) for name, each in network.named_modules() if multiplies_weight(each)]
    name, layer = layers[-1] if layers else ("", network)
    if type(layer) is not nn.Linear or layer.bias is None:
        raise ConfigError(
            f"{type(network).__name__}: expected a network whose last layer is nn.Linear with a "
            f"bias, got {type(layer).__name__} '{name}'"
        )
    return name, layer


def beats_of(
    one: Pass, layer: nn.Module, cases: Sequence[Case], task: Task, config: AdaptationConfig
) -> Iterator[Beats]:
    """Yield the features that enter the last layer in one pass, for each patient.

    Raises:
        ConfigError: the logits of a digital network are not the outputs of this layer.
        DataError: a patient has no beat beyond those for the adaptation.
    """
    for case in cases:
        sample = task.read(case)
        seen: list[Tensor] = []
        if len(sample.image) <= config.beats:
            raise DataError(
                f"{case.case_id}: expected more than {config.beats} beats, got "
                f"{len(sample.image)}. Set --beats to a smaller number."
            )
        keep = layer.register_forward_pre_hook(partial(_keep, seen))
        with hooked([keep]):
            (logits,) = predict_cases(one, [sample], task, config)
        is_digital = type(layer) is nn.Linear
        if is_digital and not torch.allclose(layer(torch.cat(seen)), logits, atol=1e-5):
            raise ConfigError(
                "expected a network whose logits are the outputs of its last nn.Linear layer; "
                "those of this network are computed from them"
            )
        yield Beats(case, torch.cat(seen).double().cpu(), sample.label)


def _keep(seen: list[Tensor], _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    seen.append(inputs[0])


def chosen_penalty(
    beats: Sequence[Beats], layer: nn.Linear, task: Task, config: AdaptationConfig
) -> float:
    """Return the penalty with the highest primary score on these patients."""

    def score(penalty: float) -> float:
        table = contributions(beats, layer, penalty, task, config)
        return float(table.loc[table["metric"] == config.primary_metric, "value"].mean())

    return max(PENALTIES, key=score)


def contributions(
    beats: Sequence[Beats],
    layer: nn.Linear,
    penalty: float | None,
    task: Task,
    config: AdaptationConfig,
) -> pd.DataFrame:
    """Return the contribution of each patient to each score of the beats after the first ones.

    Args:
        beats: features and classes of all patients.
        layer: last layer as trained.
        penalty: see :func:`adapted`; ``None`` for the layer as trained.
        task: task with its kind and classes.
        config: settings with the number of beats and the metrics.
    """
    scoring = Scoring(task.classes, config.metrics, config.tolerance, "px", apart=task.apart)
    scorer = task.kind.scorer(scoring)
    for each in beats:
        own = layer if penalty is None else adapted(layer, each, penalty, task, config.beats)
        weight, bias = own.weight.detach().double().cpu(), own.bias.detach().double().cpu()
        logits = F.linear(each.features[config.beats :], weight, bias)
        scorer.add(each.case.case_id, logits, each.label[config.beats :], ())
    patients = {each.case.case_id: each.case.patient_id for each in beats}
    rows = present_structures(pd.DataFrame(scorer.scores()))
    macro = rows.groupby(["case", "metric"], sort=False)["value"].mean().reset_index()
    return macro.assign(patient=macro["case"].map(patients))


def adapted(layer: nn.Linear, beats: Beats, penalty: float, task: Task, count: int) -> nn.Linear:
    """Return a copy of a layer, trained on the first beats of a patient.

    It minimises the loss of the task's kind plus ``penalty`` times the squared change of weights
    and biases, a convex problem, by L-BFGS with up to 200 iterations.
    """
    own = nn.Linear(layer.in_features, layer.out_features).double()
    own.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
    start = [value.detach().clone() for value in own.parameters()]
    loss_of = task.kind.loss(len(task.classes), dice=0.0, cross_entropy=1.0)
    target = task.kind.target(beats.label[:count], (), ())
    optimizer = torch.optim.LBFGS(own.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        change = sum((p - s).square().sum() for p, s in zip(own.parameters(), start, strict=True))
        loss = loss_of(own(beats.features[:count]), target) + penalty * change
        loss.backward()
        return loss

    optimizer.step(closure)
    return own


def summary(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return a row per network and time: both ways, and the gain, with intervals."""
    rows = []
    for _, part in scores.groupby(["model", "training", "time_s"], dropna=False, sort=False):
        model, training, time_s = part[["model", "training", "time_s"]].iloc[0]
        row = {
            "network": f"{model_name(model)}, {TRAINING_NAMES[training]}",
            "run": "digital" if np.isnan(time_s) else f"chip, {time_label(time_s)}",
        }
        for name in metrics:
            own = part[part["metric"] == name]
            arrays = [
                own[own["way"] == way].pivot_table("value", ["patient", "case"], "chip", sort=False)
                for way in WAYS
            ]
            patients = arrays[0].index.get_level_values("patient")
            values = [array.to_numpy(float) for array in arrays]
            if np.isnan(time_s):
                values = [array[:, 0] for array in values]
            for way, array in zip(WAYS, values, strict=True):
                found = two_way_bootstrap(array, patients=patients, bounds=bounds_of(name))
                row[f"{label_of(name)}, {way}"] = _with_interval(found)
            bounds = difference_bounds(name)
            gain = two_way_bootstrap(
                *reversed(values), patients=patients, statistic=difference, bounds=bounds
            )
            row[f"{label_of(name)}, gain"] = _with_interval(gain, "+.3f")
        rows.append(row)
    return pd.DataFrame(rows)


def _with_interval(found: Interval, form: str = ".3f") -> str:
    return with_interval(found.estimate, found.low, found.high, form)


if __name__ == "__main__":
    main()
