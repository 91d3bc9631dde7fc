"""How many vectors each layer of a network multiplies for one input."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from analogmed.errors import ConfigError, ShapeError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def count_vectors(
    model: nn.Module, layers: Mapping[str, nn.Module], input_shape: Sequence[int]
) -> Counter[str]:
    """Run a network once and count the matrix-vector products of its layers.

    The run is on torch's meta device, where only shapes are computed; a network that cannot do
    that is run on zeros, on its own device.

    Args:
        model: the network; its modes, weights and buffers are left as they were.
        layers: its convolutions, transposed convolutions and Linear layers to watch, by name.
        input_shape: (1, C, *spatial).

    Returns:
        output positions of a convolution, input positions of a transposed one, vectors of a Linear
        layer; 0 for a layer that was not called.

    Raises:
        ConfigError: ``input_shape`` is not that of one input.
        ShapeError: the network fails on it.
    """
    shape = tuple(input_shape)
    if len(shape) < 2 or shape[0] != 1 or min(shape) < 1:
        raise ConfigError(
            f"input_shape: expected that of one input with its batch axis, such as (1, C, H, W), "
            f"found {shape}"
        )
    with _evaluation_mode(model), torch.no_grad():
        try:
            return _watch(model, layers, lambda: _run_on_meta(model, shape))
        except Exception:
            pass  # not every network can be run on the meta device; what is wrong shows on zeros
        try:
            return _watch(model, layers, lambda: _run_on_zeros(model, shape))
        except Exception as error:
            raise ShapeError(
                f"{type(model).__name__} cannot be run on an input of shape {shape}: {error}"
            ) from error


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def _watch(
    model: nn.Module, layers: Mapping[str, nn.Module], run: Callable[[], object]
) -> Counter[str]:
    counts: Counter[str] = Counter()

    def counting(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            counts[name] += _vectors(layer, inputs, output)

        return count

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(counting(name)))
        run()
    return counts


def _vectors(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    if isinstance(layer, TRANSPOSED):
        return inputs[0].numel() // layer.in_channels
    if isinstance(layer, CONVOLUTIONS):
        return output.numel() // layer.out_channels
    assert isinstance(layer, nn.Linear)
    return output.numel() // layer.out_features


def _run_on_meta(model: nn.Module, shape: tuple[int, ...]) -> None:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    on_meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    image = torch.empty(shape, dtype=_dtype(model), device="meta")
    torch.func.functional_call(model, on_meta, (image,))


def _run_on_zeros(model: nn.Module, shape: tuple[int, ...]) -> None:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model(torch.zeros(shape, dtype=_dtype(model), device=device))


def _dtype(model: nn.Module) -> torch.dtype:
    floating = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(floating, torch.float32)
