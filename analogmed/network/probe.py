"""Probe of a network: a forward pass in evaluation and training mode before long computations."""

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.network.copy import copy_network
from analogmed.network.products import unregistered_layers

_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc|bad allocation|"
    r"Cannot allocate memory|Unable to allocate",
    re.IGNORECASE,
)
_SUM_TOLERANCE = 1e-3
_DIVISORS = (2, 4, 8, 16, 32)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports exhausted memory: of a GPU, of torch on a CPU, of numpy."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


@dataclass(frozen=True)
class NetworkProbe:
    """Requirements on a network; :meth:`check` tests them on a copy of it.

    Attributes:
        name: name of the network in messages: the setting, factory or file that it comes from.
        in_channels: number of channels of an image.
        out_channels: number of logits, K.
        window: spatial size of the images.
        logits_size: spatial size of the logits, empty for those of a whole image; by default that
            of the images.
        meaning: what the logits mean, for messages; by default those of masks.
    """

    name: str
    in_channels: int
    out_channels: int
    window: tuple[int, ...]
    logits_size: tuple[int, ...] | None = None
    meaning: str = ""

    def check(
        self,
        network: nn.Module,
        images: Tensor | None = None,
        *,
        training: bool = False,
        batch_size: int = 2,
    ) -> None:
        """Raise an error if the network does not return logits of the images' size.

        The test uses copies of the network, so that its statistics are unchanged, and restores the
        random state. Networks that change their input in place pass.

        Args:
            network: network to test in evaluation mode.
            images: test images of shape (B, in_channels, *window); normal noise by default.
            training: whether to test the training mode too, which may return further outputs.
            batch_size: number of noise images in the forward pass.

        Raises:
            ConfigError: names the network, its output and the remedy.
        """
        check_registered(network, self.name)
        self._check_weights(network)
        with _restored_random_state():
            if images is None:
                shape = (batch_size, self.in_channels, *self.window)
                images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            if training:
                self._check_outputs(
                    self._run(network, images, training=True), images, network, True
                )
            output = self._run(network, images, training=False)
            self._check_outputs(output, images, network, False)
            assert isinstance(output, Tensor)
            self._check_logits(output, network, images)

    def _check_weights(self, network: nn.Module) -> None:
        for name, weight in network.named_parameters():
            if weight.is_floating_point() and weight.dtype is not torch.float32:
                raise ConfigError(
                    f"{self.name}: weight '{name}' has type {weight.dtype}; expected float32, the "
                    "type of the images. Convert the network with network.float()."
                )

    def _run(self, network: nn.Module, images: Tensor, *, training: bool) -> object:
        copied = copy_network(network).train(training)
        weight = next(copied.parameters(), images)
        mode = "training" if training else "evaluation"
        try:
            with torch.no_grad():
                output: object = copied(images.to(weight.device, copy=True))
            return output
        except AnalogmedError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ConfigError(
                f"{self.name}: the network fails in {mode} mode on images of shape "
                f"{tuple(images.shape)}: {type(error).__name__}: {str(error).rstrip('.')}. "
                f"Expected a network that takes (B, {self.in_channels}, {self._sizes}) in "
                "float32; change the network, the task's window or its channels."
                f"{self._fitting(network)}"
            ) from error

    def _fitting(self, network: nn.Module) -> str:
        """Return a sentence on larger sizes of images for which logits fit; empty without any."""
        for by in _DIVISORS:
            window = tuple(-(-size // by) * by for size in self.window)
            if window == self.window:
                continue
            weight = next(network.parameters(), torch.empty(0))
            images = torch.zeros(1, self.in_channels, *window, device=weight.device)
            with suppress(Exception), torch.no_grad():
                output = copy_network(network).eval()(images)
                size = window if self.logits_size is None else self.logits_size
                if tuple(output.shape[2:]) == size:
                    return f" It takes {window}, whose sizes are multiples of {by}."
        return ""

    def _check_outputs(
        self, output: object, images: Tensor, network: nn.Module, training: bool
    ) -> None:
        mode = "training" if training else "evaluation"
        size = self.window if self.logits_size is None else self.logits_size
        expected = (len(images), self.out_channels, *size)
        first = output
        if training and isinstance(output, Sequence) and output:
            first = output[0]  # the others are the heads of deep supervision
        if not isinstance(first, Tensor):
            raise ConfigError(
                f"{self.name}: the network returns {_described(output)} in {mode} mode; expected "
                f"one tensor of logits of shape {expected}. Return the logits only, in a subclass "
                "or wrapper if need be."
            )
        if not first.is_floating_point():
            raise ConfigError(
                f"{self.name}: the network returns {first.dtype} in {mode} mode; expected logits "
                "in floating point. Return them before argmax or a threshold."
            )
        if tuple(first.shape) != expected:
            raise ConfigError(
                f"{self.name}: the network returns shape {tuple(first.shape)} in {mode} mode for "
                f"images of shape {tuple(images.shape)}; expected {expected}: {self._meaning}. "
                f"{_remedy(tuple(first.shape), expected)}{self._fitting(network)}"
            )

    def _check_logits(self, output: Tensor, network: nn.Module, images: Tensor) -> None:
        values = output.float()
        low, high = float(values.min()), float(values.max())
        if self.out_channels == 1:
            if 0 <= low < high <= 1 and self._is_bounded(network, images):
                raise ConfigError(
                    f"{self.name}: the network returns probabilities, from {low:.3g} to "
                    f"{high:.3g} on {len(output)} images; expected a logit, which is positive "
                    "inside the structure. Remove its final sigmoid, or return torch.logit of it."
                )
            return
        sums = values.sum(1)
        if low >= 0 and float((sums - 1).abs().max()) < _SUM_TOLERANCE:
            raise ConfigError(
                f"{self.name}: the network returns probabilities: its {self.out_channels} outputs "
                "are positive and their sum is 1 everywhere; expected logits. Remove its final "
                "softmax, or return the logarithm of its outputs."
            )

    def _is_bounded(self, network: nn.Module, images: Tensor) -> bool:
        """Return whether the output stays in [0, 1] when the output of the last layer is negative.

        This excludes logits of a barely trained network, which can also be within [0, 1].
        """
        calls, last = 0, -1

        def negate_last(module: nn.Module, inputs: object, output: object) -> Tensor | None:
            nonlocal calls
            calls += 1
            return -output if calls == last and isinstance(output, Tensor) else None

        hooked = copy_network(network)
        for module in hooked.modules():
            if any(True for _ in module.parameters(recurse=False)) or is_parametrized(module):
                module.register_forward_hook(negate_last)
        self._run(hooked, images, training=False)
        last, calls = calls, 0
        output = self._run(hooked, images, training=False)
        assert isinstance(output, Tensor)
        return bool(((output >= 0) & (output <= 1)).all())

    @property
    def _sizes(self) -> str:
        return ", ".join(map(str, self.window))

    @property
    def _meaning(self) -> str:
        if self.meaning:
            return self.meaning
        if self.out_channels == 1:
            return "one logit for the one class, at the size of the images"
        logits = f"{self.out_channels} logits, of the background and each class"
        return f"{logits}, at the size of the images"


def _remedy(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Return how to mend logits of another shape."""
    if len(shape) == 2 < len(expected):
        return (
            "It classifies whole images: choose a network with logits at each position, or a task "
            "that classifies images."
        )
    if len(shape) > 2 == len(expected):
        return (
            "It has logits at each position: choose a network that classifies whole images, or a "
            "task of segmentation or sequence labelling."
        )
    if len(shape) == len(expected) and shape[1] != expected[1]:
        return "Change its number of outputs, or the classes of the task (task.options.classes)."
    return "Change its padding or its strides, or the task's window."


def check_registered(network: nn.Module, name: str) -> None:
    """Raise an error for a network with layers that torch has not registered.

    Args:
        network: the network.
        name: origin of the network, for the message.

    Raises:
        ConfigError: names the layers and the remedy.
    """
    layers = unregistered_layers(network)
    if layers:
        listed = ", ".join(f"{place} ({kind})" for place, kind in layers.items())
        raise ConfigError(
            f"{name}: torch does not register layers in plain containers, so that the weights of "
            f"{listed} are neither trained nor saved; expected registered layers. Put them in an "
            "nn.ModuleList or nn.ModuleDict."
        )


def _described(output: object) -> str:
    kind = type(output).__name__
    if isinstance(output, dict):
        return f"a {kind} with the keys {', '.join(map(repr, output))}"
    if isinstance(output, Sequence) and not isinstance(output, str):
        return f"a {kind} of {len(output)}"
    return f"a {kind}"


@contextmanager
def _restored_random_state() -> Iterator[None]:
    python, of_numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)
