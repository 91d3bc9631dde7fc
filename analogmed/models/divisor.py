"""Requirements of networks on the size of their input."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from analogmed.foundation.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

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


def require_window(images: "Tensor", window: tuple[int, ...]) -> None:
    """Raise ShapeError if images (B, C, *spatial) do not have the size of a network's window."""
    if tuple(images.shape[2:]) != window:
        raise ShapeError(
            f"model.options.window: the network is built for images of {window}; got "
            f"{tuple(images.shape[2:])}. Set it to the size of the images, or give a trained "
            "network images of its size (task.size; rate and window_s of signals)."
        )


def window_of_task(factory: Factory) -> Factory:
    """Declare that the option ``window`` of a model factory is the window of the task.

    Training sets the option to the window of its task where it is not given.
    """
    factory.window_of_task = True  # type: ignore[attr-defined]
    return factory
