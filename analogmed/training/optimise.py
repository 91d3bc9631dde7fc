"""Weight updates: optimizers, learning-rate schedules and averaged weights."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from analogmed.foundation.errors import CheckpointError, ConfigError
from analogmed.foundation.settings.checks import require_choice, require_number
from analogmed.network.weights import STATISTICS
from analogmed.training.settings import OptimizerConfig


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return AdamW, or SGD with Nesterov momentum, for the trainable parameters.

    Weight decay applies to weights that multiply, matrices and kernels. Biases, normalisation,
    input ranges, output scales and attention's table of positions have none, because it would pull
    them to a value without meaning. In adamw the decay is decoupled from the gradient (Loshchilov
    and Hutter 2019, arXiv:1711.05101); in sgd it is added to it.

    Args:
        model: network; parameters that need no gradient are left out.
        config: settings of the optimizer.

    Raises:
        ConfigError: the optimizer is unknown, or the model has no trainable parameter.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (decayed if _decays(name, parameter) else others).append(parameter)
    if not decayed and not others:
        raise ConfigError(f"{type(model).__name__} has no parameter that learns")
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    require_choice("optimizer.name", config.name, _OPTIMIZERS)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, config.learning_rate)
    return torch.optim.SGD(
        groups, config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0
    )


def schedule_factor(config: OptimizerConfig, steps: int) -> Callable[[int], float]:
    """Return the learning rate of each step, as a share of the peak.

    It rises linearly over the first ``warm_up`` share of the steps. Then, with ``progress`` from 0
    to 1 at the end of training, it is (1 + cos(pi progress)) / 2, (1 - progress)^power, or 1.

    Args:
        config: settings of the optimizer.
        steps: number of optimizer steps in the whole training.

    Returns:
        a function of the number of completed steps, for ``torch.optim.lr_scheduler.LambdaLR``.

    Raises:
        ConfigError: the schedule is unknown.
    """
    shapes: dict[str, Callable[[float], float]] = {
        "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
        "polynomial": lambda progress: (1 - progress) ** config.power,
        "constant": lambda progress: 1.0,
    }
    require_choice("optimizer.schedule", config.schedule, shapes)
    shape, warm_up = shapes[config.schedule], round(config.warm_up * steps)

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return shape(min(1.0, (step - warm_up) / max(1, steps - warm_up)))

    return factor


def accumulation(batch: int, batches: int, accumulate: int) -> tuple[float, bool]:
    """Return the weight of a batch in its optimizer step, and whether it ends the step.

    The last step of an epoch has the remaining batches.

    Args:
        batch: number of the batch in its epoch.
        batches: number of batches in the epoch.
        accumulate: number of batches per step.

    Returns:
        the factor on the batch's loss, so that the step uses the mean; and whether the batch ends
        the step.
    """
    first = batch - batch % accumulate
    size = min(accumulate, batches - first)
    return 1 / size, batch == first + size - 1


class WeightEma:
    """Exponential moving average (EMA) of trainable weights and of the norms' running statistics.

    The decay grows with the number of updates n as min(decay, (1 + n) / (10 + n)), so that the
    average soon forgets the initial weights. Statistics are averaged too, because they belong to
    the weights: the current ones would not fit averaged weights while the learning rate is high.
    Calibrated input ranges are not averaged.

    Args:
        model: network whose current weights initialise the average.
        decay: share of the average that an update keeps, in [0, 1).

    Source: the growing decay is that of TensorFlow's ``ExponentialMovingAverage``.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        require_number("decay of averaged weights", decay, at_least=0, below=1)
        self.decay = decay
        self.updates = 0
        self._weights = {name: value.detach().clone() for name, value in _averaged(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the model's weights; call this after each optimizer step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        present = _averaged(model)
        for name, average in self._weights.items():
            average.lerp_(present[name].detach(), 1 - decay)
        self.updates += 1

    @contextmanager
    def averaged_weights(self, model: nn.Module) -> Iterator[None]:
        """Load the averaged weights into the model; on exit, restore its own to the bit."""
        present = _averaged(model)
        own = {name: present[name].detach().clone() for name in self._weights}
        _copy(self._weights, present)
        try:
            yield
        finally:
            _copy(own, present)

    def give_statistics(self, model: nn.Module) -> None:
        """Copy the averaged running statistics of the norms, but no weights, into a model."""
        statistics = {n: v for n, v in self._weights.items() if n.endswith(STATISTICS)}
        _copy(statistics, _averaged(model))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights and the number of updates."""
        averages = {_WEIGHT + name: average for name, average in self._weights.items()}
        return {_UPDATES: torch.tensor(self.updates), **averages}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the result of ``state_dict``.

        Raises:
            CheckpointError: the state belongs to another network; names a weight.
        """
        own = self.state_dict()
        for name in sorted(own.keys() | state.keys()):
            if name not in own or name not in state or own[name].shape != state[name].shape:
                raise CheckpointError(
                    f"the averaged weights are of another network: '{name}' is missing on one "
                    "side, or of another shape"
                )
        self.updates = int(state[_UPDATES])
        _copy({name: state[_WEIGHT + name] for name in self._weights}, self._weights)


_OPTIMIZERS = ("adamw", "sgd")
_RECURRENT = r"(?:_(?:ih|hh|hr)(?:_l\d+)?(?:_reverse)?)?"
_WEIGHT_NAME = re.compile(  # also pruned and parametrised
    rf"(?:.*\.)?(?:(?:\w+_)?weight{_RECURRENT}(?:_orig)?|parametrizations\.weight{_RECURRENT}\.original)"
)
_WEIGHT, _UPDATES = "weight:", "updates"


def _decays(name: str, parameter: Tensor) -> bool:
    return _WEIGHT_NAME.fullmatch(name) is not None and parameter.ndim >= 2


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    """Return the trainable parameters and running statistics, by name."""
    learning: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for name, module in model.named_modules():
        if isinstance(module, _NormBase) and module.running_mean is not None:
            for buffer in STATISTICS:
                learning[f"{name}.{buffer}".removeprefix(".")] = getattr(module, buffer)
    return learning


@torch.no_grad()
def _copy(values: dict[str, Tensor], targets: dict[str, Tensor]) -> None:
    for name, value in values.items():
        targets[name].copy_(value)
