"""The compiled passes of training, each against numpy."""

import numpy as np
import pytest
import torch

from analogmed.analog.engines.cpu.training_ops import NumbaTrainingOps
from analogmed.analog.engines.training_passes import packed_bytes

SHAPES = [(3, 5), (300, 1), (2, 32, 16, 9), (3, 7, 9, 13), (1, 33, 50, 21), (2, 3, 5, 4, 7)]
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def flags_of(shape, layout):
    generator = torch.Generator().manual_seed(0)
    flags = torch.randint(2, shape, generator=generator, dtype=torch.uint8)
    return flags.contiguous(memory_format=layout)


def packed(flags):
    mask = torch.empty((len(flags), packed_bytes(flags[0].numel())), dtype=torch.uint8)
    NumbaTrainingOps().pack(flags, mask)
    return mask


def in_memory(values):
    """Entries of the batch, each as it lies in memory."""
    strides = np.argsort([-stride for stride in values.stride()[1:]], kind="stable")
    return values.permute(0, *(strides + 1).tolist()).reshape(len(values), -1).numpy()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [False, True])
def test_flags_are_packed_as_numpy_packs_them_from_the_lowest_bit_on(shape, last):
    flags = flags_of(shape, LAYOUTS.get(len(shape) * last, torch.contiguous_format))
    expected = np.packbits(in_memory(flags), axis=1, bitorder="little")
    assert np.array_equal(packed(flags).numpy(), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [False, True])
def test_a_packed_mask_keeps_what_its_flags_would(shape, last):
    ops, flags = (
        NumbaTrainingOps(),
        flags_of(shape, LAYOUTS.get(len(shape) * last, torch.contiguous_format)),
    )
    gradient = torch.empty_like(flags, dtype=torch.float32).normal_()
    mask = packed(flags)
    assert torch.equal(ops.where_fits(gradient, mask), gradient * flags)
    part = slice(len(flags) // 2, None)
    assert torch.equal(ops.where_fits(gradient[part], mask[part]), (gradient * flags)[part])
