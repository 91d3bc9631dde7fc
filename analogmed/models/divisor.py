"""Requirements of networks on the size of their input."""

from collections.abc import Callable
from typing import Any, TypeVar

Factory = TypeVar("Factory", bound=Callable[..., Any])


def divisible_by(divisor: int | Callable[..., Any]) -> Callable[[Factory], Factory]:
    """Return a decorator that declares the required divisor of a model factory's input sizes.

    Args:
        divisor: the divisor; or a function of the factory's keyword arguments that returns it, or
            one divisor per axis.
    """

    def mark(factory: Factory) -> Factory:
        factory.required_divisor = divisor  # type: ignore[attr-defined]
        return factory

    return mark


def window_of_task(factory: Factory) -> Factory:
    """Declare that the option ``window`` of a model factory is the window of the task.

    Training sets the option to the window of its task where it is not given.
    """
    factory.window_of_task = True  # type: ignore[attr-defined]
    return factory
