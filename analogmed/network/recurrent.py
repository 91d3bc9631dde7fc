"""Recurrent layers of torch as Linear layers: products with the state are called once per step."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from analogmed.foundation.errors import PackedSequenceError, ShapeError
from analogmed.network.selection import RECURRENT, digital_reason
from analogmed.network.walk import own_attributes, replace_layers

State = tuple[Tensor, ...]
"""State of a step: (h,), or (h, c) of an LSTM, each (B, features)."""
_Step = Callable[[dict[str, nn.Module], Tensor, State], State]
"""Next state from the Linear layers, the product of the inputs, (B, gates), and the state."""
_OPTIONS = (
    *("mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"),
    *("bidirectional", "proj_size", "nonlinearity"),
)


def unroll_recurrent(model: nn.Module, digital: tuple[str, ...] = ()) -> nn.Module:
    """Return a network whose recurrent layers call one Linear layer per matrix.

    The product with the state is one call per step. That with the inputs, which are known, is one
    call for all steps; each step is a product of its own, with read noise of its own.

    ``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` and their cells are replaced by :class:`UnrolledLayer` and
    :class:`UnrolledCell`. All tensors are shared with the given network, which is itself returned
    if it has no such layer.

    Args:
        model: network; it is left unchanged.
        digital: names or patterns of layers and blocks that are not replaced.
    """
    if not any(isinstance(layer, RECURRENT) for layer in model.modules()):
        return model
    return replace_layers(
        model,
        lambda name, layer: (
            isinstance(layer, RECURRENT) and digital_reason(name, layer, digital) is None
        ),
        _unrolled,
    )


class _Unrolled(nn.Module):
    """Linear layers of a recurrent layer, with the names of torch's layer in the state dict.

    The layers are called ``ih`` (of the input), ``hh`` (of the state) and ``hr`` (projection), with
    torch's suffix for layer and direction, such as ``hh_l0_reverse``. Torch's names of parameters,
    such as ``weight_hh_l0``, are attributes, too.

    Args:
        name: full name of the layer in the network, for messages.
        layer: recurrent layer of torch; its parameters are shared.
    """

    def __init__(self, name: str, layer: nn.Module) -> None:
        super().__init__()
        self.full_name = name or "*"
        self.register_state_dict_post_hook(_to_torch_names)
        self.register_load_state_dict_pre_hook(_from_torch_names)
        for name, value in own_attributes(layer).items():
            if name in _OPTIONS or name == "_is_full_backward_hook":
                setattr(self, name, value)
            elif "_hooks" in name and isinstance(value, dict):
                getattr(self, name).update(value)
        for name, weight in layer._parameters.items():
            if name.startswith("weight_"):
                bias = layer._parameters.get(name.replace("weight_", "bias_", 1))
                self.add_module(name.removeprefix("weight_"), _linear(weight, bias))
        self.step = _step_of(layer)
        self.train(layer.training)

    def __getattr__(self, name: str) -> Any:
        """Return a submodule, or a parameter by its name in torch's layer."""
        if found := _TORCH_NAME.fullmatch(name):
            linear = self._modules.get(found[2] + found[3])
            if linear is not None:
                return getattr(linear, found[1])
        return super().__getattr__(name)

    def _state(self, inputs: Tensor, hx: Any, leading: tuple[int, ...]) -> State:
        """Return the first state ``hx``, or 0, after a check of its shapes (*leading, features)."""
        shapes = [(*leading, size) for size in _state_sizes(self)]
        if hx is None:
            return tuple(inputs.new_zeros(shape) for shape in shapes)
        parts = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        found = [tuple(part.shape) for part in parts]
        if found != shapes:
            raise ShapeError(
                f"hx of recurrent layer '{self.full_name}' on tiles: expected a first state of "
                f"shape {' and '.join(map(str, shapes))}, got {' and '.join(map(str, found))}. "
                "Give it the shape of the last state that torch's layer returns."
            )
        return parts

    def _matrices(self, suffix: str = "") -> dict[str, nn.Module]:
        """Return the Linear layers of one step, by name without suffix."""
        names = {name: name + suffix for name in ("ih", "hh", "hr")}
        return {name: self._modules[key] for name, key in names.items() if key in self._modules}  # type: ignore[misc]


class UnrolledLayer(_Unrolled):
    """``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` as Linear layers; see :class:`_Unrolled`."""

    num_layers: int
    batch_first: bool
    bidirectional: bool
    dropout: float

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """Return all outputs and the last state, as torch's layer does.

        Args:
            input: shape (steps, B, features), or (B, steps, features) with ``batch_first``, or
                (steps, features).
            hx: first state; 0 by default.

        Raises:
            ShapeError: the input is a packed sequence, or has another number of dimensions; the
                first state has another shape.
        """
        where = f"recurrent layer '{self.full_name}' on tiles"
        if isinstance(input, PackedSequence):
            raise PackedSequenceError(
                f"{where}: expected a tensor of 2 or 3 dimensions, got a packed sequence. Pad "
                "sequences to one length, or keep the layer digital: "
                f'digital_layers=["{self.full_name}"].'
            )
        if input.ndim not in (2, 3):
            raise ShapeError(f"{where}: expected a tensor of 2 or 3 dimensions, got {input.ndim}.")
        batched = input.ndim == 3
        batch_axis = 0 if self.batch_first else 1
        sequence = input if batched else input.unsqueeze(batch_axis)
        sequence = sequence.transpose(0, 1) if self.batch_first else sequence
        outputs, state = self._all_layers(sequence, self._first(sequence, hx, batched))
        outputs = outputs.transpose(0, 1) if self.batch_first else outputs
        if not batched:
            outputs, state = outputs.squeeze(batch_axis), tuple(part.squeeze(1) for part in state)
        return outputs, state if len(state) == 2 else state[0]

    def flatten_parameters(self) -> None:
        """Do nothing: the weights of Linear layers have no common memory."""

    def _first(self, sequence: Tensor, hx: Any, batched: bool) -> State:
        count = self.num_layers * (2 if self.bidirectional else 1)
        leading = (count, sequence.shape[1]) if batched else (count,)
        parts = self._state(sequence, hx, leading)
        return parts if batched else tuple(part.unsqueeze(1) for part in parts)

    def _all_layers(self, sequence: Tensor, first: State) -> tuple[Tensor, State]:
        directions = ("", "_reverse") if self.bidirectional else ("",)
        last: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in directions:
                state = tuple(part[len(last)] for part in first)
                matrices = self._matrices(f"_l{layer}{direction}")
                found, state = self._one_direction(matrices, sequence, state, bool(direction))
                outputs.append(found)
                last.append(state)
            sequence = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
            if self.dropout and layer < self.num_layers - 1:
                sequence = F.dropout(sequence, self.dropout, self.training)
        return sequence, tuple(torch.stack(parts) for parts in zip(*last, strict=True))

    def _one_direction(
        self, matrices: dict[str, nn.Module], sequence: Tensor, state: State, backwards: bool
    ) -> tuple[Tensor, State]:
        # the batch comes first, so that the noise of a signal is the same in any batch
        entering = matrices["ih"](sequence.transpose(0, 1)).unbind(1)
        outputs = []
        for inputs in reversed(entering) if backwards else entering:
            state = self.step(matrices, inputs, state)
            outputs.append(state[0])
        return torch.stack(outputs[::-1] if backwards else outputs), state


class UnrolledCell(_Unrolled):
    """``nn.LSTMCell``, ``nn.GRUCell`` or ``nn.RNNCell``; see :class:`_Unrolled`."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Return the next state, as torch's cell does.

        Args:
            input: shape (B, features) or (features,).
            hx: state; 0 by default.

        Raises:
            ShapeError: the state has another shape.
        """
        state = self._state(input, hx, tuple(input.shape[:-1]))
        matrices = self._matrices()
        state = self.step(matrices, matrices["ih"](input), state)
        return state if len(state) == 2 else state[0]


def _unrolled(name: str, layer: nn.Module) -> nn.Module:
    kind = UnrolledLayer if isinstance(layer, nn.RNNBase) else UnrolledCell
    return kind(name, layer)


def _linear(weight: Any, bias: Any) -> nn.Linear:
    """Return a Linear layer with these parameters; no random numbers are drawn."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    linear.weight, linear.bias = weight, bias
    return linear


def _step_of(layer: nn.Module) -> _Step:
    if isinstance(layer, nn.LSTM | nn.LSTMCell):
        return _lstm_step
    if isinstance(layer, nn.GRU | nn.GRUCell):
        return _gru_step
    return _relu_step if layer.nonlinearity == "relu" else _tanh_step


def _state_sizes(layer: Any) -> tuple[int, ...]:
    """Return the number of features of h, and of c for an LSTM."""
    hidden = layer.hidden_size
    return (
        (getattr(layer, "proj_size", 0) or hidden, hidden)
        if layer.step is _lstm_step
        else (hidden,)
    )


def _lstm_step(matrices: dict[str, nn.Module], entering: Tensor, state: State) -> State:
    hidden, cell = state
    gates = entering + matrices["hh"](hidden)
    enter, forget, new, out = gates.chunk(4, -1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
    hidden = out.sigmoid() * cell.tanh()
    return (matrices["hr"](hidden) if "hr" in matrices else hidden), cell


def _gru_step(matrices: dict[str, nn.Module], entering: Tensor, state: State) -> State:
    (hidden,) = state
    input_reset, input_update, input_new = entering.chunk(3, -1)
    reset, update, new = matrices["hh"](hidden).chunk(3, -1)
    update = (input_update + update).sigmoid()
    new = (input_new + (input_reset + reset).sigmoid() * new).tanh()
    return (new + update * (hidden - new),)


def _tanh_step(matrices: dict[str, nn.Module], entering: Tensor, state: State) -> State:
    return ((entering + matrices["hh"](state[0])).tanh(),)


def _relu_step(matrices: dict[str, nn.Module], entering: Tensor, state: State) -> State:
    return ((entering + matrices["hh"](state[0])).relu(),)


_OWN_NAME = re.compile(r"(ih|hh|hr)((?:_l\d+)?(?:_reverse)?)\.(weight|bias)")
_TORCH_NAME = re.compile(r"(weight|bias)_(ih|hh|hr)((?:_l\d+)?(?:_reverse)?)")


def _to_torch_names(
    _module: nn.Module, state: dict[str, Any], prefix: str, _metadata: object
) -> None:
    for key, name in _matching(state, prefix, _OWN_NAME):
        state[f"{prefix}{name[3]}_{name[1]}{name[2]}"] = state.pop(key)


def _from_torch_names(
    _module: nn.Module, state: dict[str, Any], prefix: str, *_others: object
) -> None:
    for key, name in _matching(state, prefix, _TORCH_NAME):
        state[f"{prefix}{name[2]}{name[3]}.{name[1]}"] = state.pop(key)


def _matching(
    keys: Iterable[str], prefix: str, pattern: re.Pattern[str]
) -> Iterator[tuple[str, re.Match[str]]]:
    for key in list(keys):
        if key.startswith(prefix) and (found := pattern.fullmatch(key.removeprefix(prefix))):
            yield key, found
