"""How many vectors each layer of a network multiplies for one input."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from analogmed.errors import ConfigError, ShapeError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def count_vectors(
    model: nn.Module, names: Iterable[str], input_shape: Sequence[int]
) -> Counter[str]:
    """Run a copy of a network once and count the matrix-vector products of its layers.

    The copy is run on torch's meta device, where it takes no memory and only shapes are computed; a
    network that cannot do that is run on zeros, on its own device.

    Args:
        model: the network; it is not touched.
        names: its convolutions, transposed convolutions and Linear layers to watch.
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
    names = tuple(names)
    try:
        return _run(_meta_copy(model), names, shape)
    except Exception:
        pass  # not every network can be run on the meta device; what is wrong shows on zeros
    try:
        return _run(copy.deepcopy(model), names, shape)
    except Exception as error:
        raise ShapeError(
            f"{type(model).__name__} cannot be run on an input of shape {shape}: {error}"
        ) from error


def _meta_copy(model: nn.Module) -> nn.Module:
    weights = {id(p): nn.Parameter(_on_meta(p), p.requires_grad) for p in model.parameters()}
    buffers = {id(buffer): _on_meta(buffer) for buffer in model.buffers()}
    return copy.deepcopy(model, {**weights, **buffers})


def _on_meta(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta", requires_grad=False)


def _run(model: nn.Module, names: tuple[str, ...], shape: tuple[int, ...]) -> Counter[str]:
    counts: Counter[str] = Counter()

    def counting(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            counts[name] += _vectors(layer, inputs, output)

        return count

    for name in names:
        model.get_submodule(name).register_forward_hook(counting(name))
    weights = [weight for weight in model.parameters() if weight.is_floating_point()]
    device, dtype = (weights[0].device, weights[0].dtype) if weights else (None, None)
    with torch.no_grad():
        model.eval()(torch.zeros(shape, device=device, dtype=dtype))
    return counts


def _vectors(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    if isinstance(layer, TRANSPOSED):
        return inputs[0].numel() // layer.in_channels
    if isinstance(layer, CONVOLUTIONS):
        return output.numel() // layer.out_channels
    assert isinstance(layer, nn.Linear)
    return output.numel() // layer.out_features
