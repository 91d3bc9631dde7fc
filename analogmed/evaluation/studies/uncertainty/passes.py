"""Sources of Monte Carlo passes: chips, dropout, an ensemble, or one digital run."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from analogmed.data import Sample, Task
from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.passes import DIGITAL_TIME_S, Pass, chip_passes, predict_cases
from analogmed.evaluation.session import groups
from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.studies.uncertainty.maps import UncertaintyMaps, UncertaintyStream
from analogmed.evaluation.studies.uncertainty.settings import Source, UncertaintyConfig
from analogmed.foundation.seeds import derive_seed
from analogmed.network.walk import hooked
from analogmed.training import Checkpoint

_BLOCK_BYTES = 2 * 2**30


MakePasses = Callable[[], Iterator[Pass]]
Observe = Callable[[Pass, Sample, Tensor], object]


def passes_of(
    source: Source, members: Sequence[Checkpoint], config: UncertaintyConfig, task: Task
) -> MakePasses | None:
    """Return a function that yields the passes of a source, any number of times.

    Args:
        source: source of the passes.
        members: networks of one model and training; only an ensemble uses all of them.
        config: settings with chips, times and reads.
        task: task with the training images for calibrating a chip.

    Returns:
        The function; ``None`` if the source does not exist, which is dropout in a network without a
        dropout layer, or an ensemble of one. Warns where this is unexpected.
    """
    first = members[0]
    if not has_source(source, members, config):
        return None
    if source == "deterministic":
        return lambda: iter([_digital(first, config, 0)])
    if source == "ensemble":
        return lambda: (_digital(m, config, read) for read, m in enumerate(members))
    if source == "mc_dropout":
        return lambda: _dropped(first, config)
    analog = make_analog(first, config, task)
    return lambda: chip_passes(
        analog,
        config.sweep,
        model=first.info.model,
        seed=config.seed,
        chips=range(config.sweep.chips),
    )


def has_source(source: Source, members: Sequence[Checkpoint], config: UncertaintyConfig) -> bool:
    """Return whether a source exists for a network; warn if dropout does not exist.

    Args:
        source: source of the passes.
        members: networks of one model and training.
        config: settings with the rate of additional dropout.
    """
    if source == "ensemble":
        return len(members) > 1
    first = members[0]
    if source == "mc_dropout" and not (config.dropout or has_dropout(first.network)):
        warnings.warn(
            f"{first.path}: mc_dropout is left out, {first.info.model} has no dropout layer "
            "above 0; --dropout 0.1 puts some in",
            stacklevel=2,
        )
        return False
    return True


def expected_passes(
    source: Source, members: Sequence[Checkpoint], config: UncertaintyConfig
) -> int:
    """Return the number of passes of a source over each case."""
    counts = {"deterministic": 1, "ensemble": len(members), "mc_dropout": config.passes}
    return counts.get(source, config.passes * len(config.sweep.times_s))


def maps_of(
    make_passes: MakePasses,
    samples: Iterable[Sample],
    task: Task,
    config: UncertaintyConfig,
    observe: Observe,
) -> Iterator[tuple[float, Sample, UncertaintyMaps]]:
    """Yield the maps of each case at each time.

    Cases are processed in blocks whose sums use up to 2 GB. Each block reprograms the chips from
    the same seeds.

    Args:
        make_passes: function returned by :func:`passes_of`.
        samples: cases; those of one block at a time are held.
        task: task with window and classes.
        config: settings with batch size and device.
        observe: callback with each pass, case and its probabilities.
    """
    n_times = len(config.sweep.times_s)
    for block in _blocks(samples, task.out_channels * 2 + 6, n_times):
        streams: dict[tuple[float, int], UncertaintyStream] = {}
        scored: dict[int, Sample] = {}
        for one in make_passes():
            for index, (sample, prob) in enumerate(predictions(one, block, task, config)):
                scored[index] = sample
                stream = streams.setdefault((_key(one.time_s), index), UncertaintyStream())
                stream.add(prob, one.chip)
                observe(one, sample, prob)
        for key in sorted(streams, key=lambda key: (key[0], key[1])):
            time_s = DIGITAL_TIME_S if key[0] < 0 else key[0]
            yield time_s, scored[key[1]], streams.pop(key).maps()


@torch.inference_mode()
def predictions(
    one: Pass, samples: Iterable[Sample], task: Task, config: Experiment
) -> Iterator[tuple[Sample, Tensor]]:
    """Yield each case with its probabilities in one pass, shape (N, K, *positions).

    The label of a yielded sample has the references that are scored.

    Raises:
        NonFiniteError: a logit is NaN or Inf; the message names the case.
    """
    for group in groups(samples, task.kind.cases_together(config.images_per_pass)):
        logits = predict_cases(one, group, task, config)
        for sample, of_case in zip(group, logits, strict=True):
            scored = task.kind.scored_logits(of_case, sample.label)
            labelled = replace(sample, label=task.kind.references(sample.label))
            yield labelled, task.kind.positions(scored)


def has_dropout(network: nn.Module) -> bool:
    """Return whether a network has a dropout layer with a rate above 0."""
    return any(isinstance(m, _DropoutNd) and m.p > 0 for m in network.modules())


class DropoutNetwork:
    """A network with active dropout; all other layers, also BatchNorm, are in evaluation mode.

    Args:
        network: network in evaluation mode, which is kept.
        rate: rate of additional dropout on the inputs of all convolutions and Linear layers except
            the first; 0 adds none.
        seed: seed of the pass.

    Source: Gal and Ghahramani 2016, arXiv:1506.02142; dropout added after training: Mi et al. 2022,
    arXiv:1910.04858.
    """

    def __init__(self, network: nn.Module, rate: float, seed: int) -> None:
        self.network, self.rate, self.seed = network, rate, seed
        self._seeds = iter(())  # type: Iterator[int]
        self.restart()

    def restart(self, *address: object) -> None:
        """Restart the draws from the seed of an address."""
        self._seeds = _endless(self.seed, *address)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of a batch for one draw."""
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(devices), _dropping(self.network, self.rate):
            torch.manual_seed(next(self._seeds))
            return self.network(images)


@contextmanager
def _dropping(network: nn.Module, rate: float) -> Iterator[None]:
    own = [m for m in network.modules() if isinstance(m, _DropoutNd) and not m.training]
    layers = [m for m in network.modules() if isinstance(m, _ConvNd | nn.Linear)][1:]
    further = layers if rate else []
    with hooked(layer.register_forward_pre_hook(_dropout_of(rate)) for layer in further):
        try:
            for module in own:
                module.train()
            yield
        finally:
            for module in own:
                module.eval()


def _dropout_of(rate: float) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda _, inputs: (F.dropout(inputs[0], rate, training=True), *inputs[1:])


def _endless(seed: int, *address: object) -> Iterator[int]:
    batch = 0
    while True:
        yield derive_seed(seed, *address, batch)
        batch += 1


def _digital(checkpoint: Checkpoint, config: UncertaintyConfig, read: int) -> Pass:
    return Pass.digital(checkpoint.network.to(config.device), read)


def _dropped(checkpoint: Checkpoint, config: UncertaintyConfig) -> Iterator[Pass]:
    network = checkpoint.network.to(config.device)
    name = (checkpoint.info.model, checkpoint.info.training)
    for read in range(config.passes):
        seed = derive_seed(config.seed, *name, "dropout", read)
        dropping = DropoutNetwork(network, config.dropout, seed)
        yield Pass.digital(dropping, read, dropping.restart)


def _key(time_s: float) -> float:
    return -1.0 if time_s != time_s else time_s


def _blocks(samples: Iterable[Sample], maps_per_voxel: int, n_times: int) -> Iterator[list[Sample]]:
    block: list[Sample] = []
    used = 0
    for sample in samples:
        size = sample.label.size * 4 * maps_per_voxel * n_times
        if block and used + size > _BLOCK_BYTES:
            yield block
            block, used = [], 0
        block.append(sample)
        used += size
    if block:
        yield block
