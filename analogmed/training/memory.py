"""Memory use of training: activation checkpointing, and advice when memory runs out."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.network.selection import multiplies_weight


def checkpoint_activations(model: nn.Module) -> int:
    """Let a network store only the inputs of its blocks and recompute the rest for gradients.

    Blocks with MONAI's switch ``use_checkpoint`` (those of Swin transformers) are switched. Others
    are the smallest modules with at least two layers that multiply. Gradients are the same to the
    bit: the recomputation uses the random numbers of the first pass, including the noise of analog
    layers, and does not change buffers such as BatchNorm statistics. Evaluation and the names of
    weights are not affected.

    Args:
        model: the network, plain or analog; changed in place.

    Returns:
        the number of blocks.

    Raises:
        ConfigError: the network has no such block; names the network.
    """
    blocks = _blocks(model)
    for block in blocks:
        if _has_switch(block):
            for module in block.modules():
                if _has_switch(module):
                    module.use_checkpoint = True  # type: ignore[assignment]
        else:
            block.forward = MethodType(_forward_twice, block)
    if not blocks:
        raise ConfigError(
            f"activation_checkpointing: {type(model).__name__} has no block of two or more layers "
            "to compute again; switch it off"
        )
    return len(blocks)


def explain_out_of_memory(
    error: BaseException,
    *,
    batch_size: int,
    window: Sequence[int],
    weights: int,
    checkpointing: bool,
    accumulate: int = 1,
    divisor: Sequence[int] | None = None,
) -> AnalogmedError:
    """Return an error that states, with numbers, which of batch, patch and checkpointing to change.

    Args:
        error: error for which :func:`analogmed.network.probe.is_out_of_memory` is true.
        batch_size: patches in a batch.
        window: size of a patch.
        weights: number of trainable weights; each takes 16 bytes in training in float32 with AdamW:
            itself, its gradient and two moments.
        checkpointing: whether activations are recomputed already.
        accumulate: batches in a step.
        divisor: divisor of the window's size that the network requires; 1 by default.

    Returns:
        the error to raise from the given one.
    """
    asked = _bytes_asked(str(error))
    more = f" ({_readable(asked)} more were asked for)" if asked else ""
    advice = [
        *_advise_checkpointing(checkpointing),
        *_advise_batch(batch_size, accumulate),
        *_advise_window(window, divisor or (1,) * len(window)),
    ]
    return ConfigError(
        f"out of memory{more} with batches of {batch_size} patches of {_size(window)} and "
        f"activation_checkpointing {'on' if checkpointing else 'off'}. The {weights:,} weights "
        f"with their gradients and moments take {_readable(16 * weights)} whatever the batch; "
        f"the rest grows with batch and patch. Change one of these: "
        f"{'; '.join(advice) or 'take a smaller network'}. {_first_line(error)}"
    )


def _blocks(model: nn.Module) -> list[nn.Module]:
    """Return the outermost modules with a switch, and outside them the smallest with two layers."""
    found: list[nn.Module] = []
    seen: set[nn.Module] = set()  # some networks register a layer twice

    def search(module: nn.Module) -> int:
        """Return the number of layers below a module that are in no block yet."""
        if module in seen:
            return 0
        seen.add(module)
        if _has_switch(module):
            found.append(module)
            return 0
        if multiplies_weight(module):
            return 1
        before = len(found)
        layers = sum(map(search, module.children()))
        if layers >= 2 and len(found) == before:
            found.append(module)
            return 0
        return layers

    search(model)
    return found


def _has_switch(module: nn.Module) -> bool:
    return isinstance(getattr(module, "use_checkpoint", None), bool)


def _forward_twice(block: nn.Module, *inputs: Any, **named: Any) -> Any:
    compute = partial(type(block).forward, block, **named)
    if not (block.training and torch.is_grad_enabled()):
        return compute(*inputs)
    return checkpoint(
        compute,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _without_a_trace(block)),
    )


@contextmanager
def _without_a_trace(block: nn.Module) -> Iterator[None]:
    """Replace buffers by copies inside, so that the block's changes to them are discarded."""
    kept = [(module, dict(module._buffers)) for module in block.modules()]
    for module, buffers in kept:
        module._buffers.update({key: b if b is None else b.clone() for key, b in buffers.items()})
    try:
        yield
    finally:
        for module, buffers in kept:
            module._buffers.update(buffers)


_ASKED = re.compile(
    r"(?:allocate|allocate an array of)\s+(\d+(?:\.\d+)?)\s*(bytes?|[KMGTPE]iB)\b", re.IGNORECASE
)
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def _bytes_asked(message: str) -> int | None:
    found = _ASKED.search(message)
    if not found:
        return None
    unit = found[2].lower()
    power = 0 if unit.startswith("byte") else [u.lower() for u in _UNITS].index(unit)
    return round(float(found[1]) * 1024**power)


def _readable(count: float) -> str:
    power = min(len(_UNITS) - 1, max(0, math.floor(math.log(max(count, 1), 1024))))
    return f"{count / 1024**power:.{1 if power else 0}f} {_UNITS[power]}"


def _advise_checkpointing(on: bool) -> list[str]:
    if on:
        return []
    return ["activation_checkpointing: true keeps fewer activations, with the same result, slower"]


def _advise_batch(batch_size: int, accumulate: int) -> list[str]:
    if batch_size == 1:
        return []
    half, batches = batch_size // 2, -(-batch_size * accumulate // (batch_size // 2))
    return [
        f"batch_size: {half} takes {half / batch_size:.0%} of the activations, and with "
        f"optimizer.accumulate: {batches} as many patches make a step"
    ]


def _advise_window(window: Sequence[int], divisor: Sequence[int]) -> list[str]:
    smaller = [max(by, size * 2 // 3 // by * by) for size, by in zip(window, divisor, strict=True)]
    if not math.prod(smaller) < math.prod(window):
        return []
    share = math.prod(smaller) / math.prod(window)
    return [
        f"task.options.window: {smaller} instead of {list(window)} has {share:.0%} as many "
        "positions"
    ]


def _size(window: Sequence[int]) -> str:
    return "x".join(map(str, window))


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).splitlines()), "")
    return f"({type(error).__name__}: {line})" if line else f"({type(error).__name__})"
