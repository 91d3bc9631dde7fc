"""By what a network wants the size of its input to be divisible."""

from collections.abc import Callable
from typing import Any, TypeVar

Factory = TypeVar("Factory", bound=Callable[..., Any])


def divisible_by(divisor: int | Callable[..., Any]) -> Callable[[Factory], Factory]:
    """Decorator of a model factory that says what sizes its networks accept.

    Args:
        divisor: the number; or a function of the factory's keyword arguments that returns it, or
            one number per axis.
    """

    def mark(factory: Factory) -> Factory:
        factory.required_divisor = divisor  # type: ignore[attr-defined]
        return factory

    return mark
