"""File format of a checkpoint: safetensors with a description and a digest in the header."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from analogmed.foundation.errors import CheckpointError

# One key of metadata only: safetensors writes several keys in a random order.
_HEADER, _DIGEST = "analogmed", "sha256"
_LONGEST_HEADER = 100_000_000  # the limit of the safetensors format
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

WRITE_IT = (
    "load its weights into the network and write both with analogmed.save_checkpoint(path, "
    "network, task=..., factory=..., patients=...), or call 'analogmed models import'; "
    "docs/tutorials/your-network.md shows how"
)


def write_file(path: Path, description: str, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors and their description, with the digest of both.

    Args:
        path: file to write.
        description: JSON text.
        tensors: tensors on the CPU, contiguous, each with its own storage.
    """
    content = json.loads(description)
    text = json.dumps(content, sort_keys=True)
    if isinstance(content, dict):
        content[_DIGEST] = _digest(text, tensors)
        text = json.dumps(content, sort_keys=True)
    save_file(dict(tensors), path, metadata={_HEADER: text})


def read_file(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Read the description and the tensors, on the CPU.

    A file without a digest, written before digests existed, is read with a warning.

    Raises:
        CheckpointError: the file is missing, damaged, a pickle, has no description, or its content
            is not what was written.
    """
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint {path}: there is no such file; expected a checkpoint, or a run folder of "
            "train"
        )
    try:
        _refuse_pickle(path)
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged or no safetensors file ({error}); use an older one"
        ) from error
    if _HEADER not in header:
        raise CheckpointError(
            f"checkpoint {path}: the header contains no description of the network; {WRITE_IT}"
        )
    description, digest = _split(path, header[_HEADER])
    _check_digest(path, digest, description, tensors)
    return description, tensors


def _split(path: Path, text: str) -> tuple[str, object]:
    """Return the description without its digest, and the digest; ``None`` in an older file."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"checkpoint {path}: its header cannot be read: {error}") from error
    digest = content.pop(_DIGEST, None) if isinstance(content, dict) else None
    return json.dumps(content, sort_keys=True), digest


def _check_digest(
    path: Path, digest: object, description: str, tensors: Mapping[str, Tensor]
) -> None:
    if digest is None:
        warnings.warn(
            f"checkpoint {path}: no digest in the header, so that damaged weights cannot be "
            "detected; the file was written by an older version. Load it and write it again with "
            "save_checkpoint.",
            stacklevel=5,
        )
    elif digest != _digest(description, tensors):
        raise CheckpointError(
            f"checkpoint {path}: the content has changed since it was written; expected SHA-256 "
            f"{str(digest)[:12]} of description and weights. Use another copy of the file."
        )


def _digest(description: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the description and of all tensors, with name, type and shape."""
    found = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        if tensor.numel():
            found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _refuse_pickle(path: Path) -> None:
    """Raise an error for a pickle under any name.

    A safetensors file starts with the length of its header, 8 bytes, which may look like the start
    of a pickle, and then ``{``.
    """
    with path.open("rb") as file:
        head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    if head[8:] == b"{" and length <= _LONGEST_HEADER:
        return
    if head.startswith(_PICKLES):
        raise CheckpointError(
            f"checkpoint {path} is a pickle, which can run code when it is read, and is refused; "
            f"read it with torch.load(..., weights_only=True), {WRITE_IT}"
        )
