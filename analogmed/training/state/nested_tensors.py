"""State dictionaries on disk without pickle: tensors under flat names, the rest as JSON.

A state in torch (of a module, an optimizer, a generator) consists of dictionaries, lists and
tuples with tensors, numbers and strings. Each tensor is stored in a safetensors file under its
path, for instance ``optimizer.state.0.exp_avg``; the JSON contains this name in its place.
Equal content is written as equal bytes.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

_HEADER = "analogmed.nested"
_TENSOR, _ARRAY, _TUPLE, _ITEMS = "$tensor", "$array", "$tuple", "$items"


def write_nested(path: Path, nested: Any) -> None:
    """Write dictionaries, lists and tuples of tensors, arrays, numbers, strings and ``None``.

    Args:
        path: safetensors file.
        nested: structure to write. Tensors are copied to the CPU; a tensor that occurs more than
            once is written once.

    Raises:
        TypeError: names the place of a value of another type.
        OSError, safetensors.SafetensorError: the file cannot be written.
    """
    flat = _Flat()
    structure = json.dumps(flat.encode("", nested))
    checksum = _checksum(structure, flat.tensors)
    save_file(flat.tensors, path, metadata={_HEADER: f"{checksum} {structure}"})


def read_nested(path: Path) -> Any:
    """Return what :func:`write_nested` wrote: equal in values and types, tensors on the CPU.

    Raises:
        ValueError: the file has another format, or its content is not what was written.
        OSError, safetensors.SafetensorError: the file cannot be read.
    """
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _HEADER not in header:
        raise ValueError("it does not say what its tensors are")
    checksum, _, structure = header[_HEADER].partition(" ")
    if checksum != _checksum(structure, tensors):
        raise ValueError("its checksum is not that of its content")
    return _decode(json.loads(structure), tensors)


class _Flat:
    """Tensors by the path of their first occurrence."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}

    def encode(self, place: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            return {_TENSOR: self._name(place, value.detach())}
        if isinstance(value, np.ndarray):
            return {_ARRAY: self._store(place, torch.from_numpy(value.copy()))}
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, dict):
            return self._encode_items(place, value)
        if isinstance(value, list | tuple):
            entries = [self.encode(_below(place, index), v) for index, v in enumerate(value)]
            return entries if isinstance(value, list) else {_TUPLE: entries}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"{place or 'the value'} is a {type(value).__name__}, which is not kept")

    def _encode_items(self, place: str, items: dict[Any, Any]) -> Any:
        encoded = [(key, self.encode(_below(place, key), v)) for key, v in items.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key in items):
            return dict(encoded)
        return {_ITEMS: [[self.encode(place, key), value] for key, value in encoded]}

    def _name(self, place: str, tensor: Tensor) -> str:
        same = (tensor.data_ptr() or place, tensor.shape, tensor.stride(), tensor.dtype)
        if same not in self._names:
            self._names[same] = self._store(place, tensor)
        return self._names[same]

    def _store(self, place: str, tensor: Tensor) -> str:
        name = place or "value"
        while name in self.tensors:  # a key with a dot may look like a path
            name += "'"
        self.tensors[name] = tensor.cpu().clone(memory_format=torch.contiguous_format)
        return name


def _below(place: str, key: Any) -> str:
    return f"{place}.{key}" if place else str(key)


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(entry, tensors) for entry in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$tensor": name}:
            return tensors[name]
        case {"$array": name}:
            return tensors[name].numpy()
        case {"$tuple": entries}:
            return tuple(_decode(entry, tensors) for entry in entries)
        case {"$items": items}:
            return {_decode(key, tensors): _decode(entry, tensors) for key, entry in items}
    return {key: _decode(entry, tensors) for key, entry in value.items()}


def _checksum(structure: str, tensors: dict[str, Tensor]) -> str:
    found = zlib.crc32(structure.encode())
    for name in sorted(tensors):
        content = tensors[name].reshape(-1).view(torch.uint8)
        found = zlib.crc32(content.numpy().data, zlib.crc32(name.encode(), found))
    return f"{found:08x}"
