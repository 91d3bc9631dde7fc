"""From a loss to new weights: optimizer, schedule, clipping and average, as one."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from analogmed.analog import WeightClipper
from analogmed.training.optimise import Average, make_optimizer, schedule_factor
from analogmed.training.settings import TrainConfig


class Learner:
    """Takes the steps of a training run.

    Args:
        model: the network; what needs no gradient stays as it is.
        config: the settings.
        steps: of the whole run.

    Attributes:
        steps: taken so far.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, steps: int) -> None:
        self._model = model
        self._gradient_norm = config.optimizer.gradient_norm
        self._optimizer = make_optimizer(model, config.optimizer)
        self._schedule = LambdaLR(self._optimizer, schedule_factor(config.optimizer, steps))
        self._average = Average(model, config.optimizer.ema) if config.optimizer.ema else None
        self._clipper = WeightClipper(model)
        self.steps = 0

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
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
        """The model has its averaged weights inside, if there is an average."""
        return self._average.lent(self._model) if self._average else nullcontext()

    def take_averaged_statistics(self) -> None:
        """Give the norms of the model the running statistics of the average, if there is one."""
        if self._average:
            self._average.give_statistics(self._model)

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on beside the model's own state."""
        return {
            "steps": self.steps,
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.state_dict() if self._average else {},
            "clipper": self._clipper.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        self.steps = int(state["steps"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.last_epoch = self.steps
        if self._average:
            self._average.load_state_dict(state["average"])
        self._clipper.load_state_dict(state["clipper"])
