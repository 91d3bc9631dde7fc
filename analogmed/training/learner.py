"""Optimisation step of a training run: optimizer, schedule, clipping and weight average."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from analogmed.analog import WeightClipper
from analogmed.training.optimise import WeightEma, make_optimizer, schedule_factor
from analogmed.training.settings import TrainConfig


class StepOptimizer:
    """Optimizer, schedule and weight average of a training run.

    Args:
        model: network; parameters that need no gradient stay as they are.
        config: settings of the run.
        steps: number of steps of the whole run.

    Attributes:
        steps: number of steps taken so far.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, steps: int) -> None:
        self._model = model
        self._gradient_norm = config.optimizer.gradient_norm
        self._optimizer = make_optimizer(model, config.optimizer)
        self._schedule = LambdaLR(self._optimizer, schedule_factor(config.optimizer, steps))
        self._average = WeightEma(model, config.optimizer.ema) if config.optimizer.ema else None
        self._clipper = WeightClipper(model)
        self.steps = 0

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return float(self._schedule.get_last_lr()[0])

    def step(self) -> None:
        """Take a step along the gradients, and clear them."""
        groups = self._optimizer.param_groups
        learning = [parameter for group in groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(learning, self._gradient_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._schedule.step()
        self._clipper.step()
        if self._average:
            self._average.update(self._model)
        self.steps += 1

    def averaged(self) -> AbstractContextManager[None]:
        """Return a context in which the model has its averaged weights, if there is an average."""
        return self._average.averaged_weights(self._model) if self._average else nullcontext()

    def take_averaged_statistics(self) -> None:
        """Copy the average's running statistics, if any, into the norms of the model."""
        if self._average:
            self._average.give_statistics(self._model)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next steps depend on, except the model's own state."""
        return {
            "steps": self.steps,
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.state_dict() if self._average else {},
            "clipper": self._clipper.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of ``state_dict``."""
        self.steps = int(state["steps"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.last_epoch = self.steps
        if self._average:
            self._average.load_state_dict(state["average"])
        self._clipper.load_state_dict(state["clipper"])
