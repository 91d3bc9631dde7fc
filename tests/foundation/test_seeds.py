import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analogmed.foundation.seeds import derive_seed

PARTS = st.lists(st.one_of(st.integers(), st.text(max_size=5), st.floats(allow_nan=False)))


@given(st.integers(), PARTS)
def test_a_seed_fits_torch_and_numpy(root, path):
    assert 0 <= derive_seed(root, *path) < 2**63


@given(st.integers(), PARTS, st.integers(), PARTS)
def test_different_addresses_have_different_seeds(root, path, other_root, other_path):
    same = (root, list(map(repr, path))) == (other_root, list(map(repr, other_path)))
    assert (derive_seed(root, *path) == derive_seed(other_root, *other_path)) == same


def test_parts_are_told_apart_by_type_and_by_border():
    addresses = [(1,), ("1",), (1.0,), ("1", "2"), ("1/2",), ("1'/'2",), ("12",), ()]
    assert len({derive_seed(0, *address) for address in addresses}) == len(addresses)


@given(st.integers(0, 127))
def test_equal_integers_of_python_and_numpy_have_the_same_seed(number):
    kinds = (np.int8, np.int32, np.int64, np.uint8, np.uint64)
    assert {derive_seed(5, "chip", kind(number)) for kind in kinds} == {
        derive_seed(5, "chip", number)
    }
    assert derive_seed(np.int64(number), "chip") == derive_seed(number, "chip")


@pytest.mark.parametrize(
    ("scalar", "plain"),
    [
        (np.float64(86_400.5), 86_400.5),
        (np.float32(0.1), 0.10000000149011612),
        (np.str_("case"), "case"),
        (np.bool_(1), True),
    ],
    ids=repr,
)
def test_other_scalars_of_numpy_have_the_seed_of_what_they_equal(scalar, plain):
    assert derive_seed(5, scalar) == derive_seed(5, plain)


def test_a_seed_is_the_upper_63_bits_of_blake2b_of_the_address():
    digest = hashlib.blake2b(b"7/'chip'/3/'time'/86400.0", digest_size=8).digest()
    assert derive_seed(7, "chip", 3, "time", 86_400.0) == int.from_bytes(digest, "big") // 2


def test_seeds_do_not_depend_on_the_process():
    code = "from analogmed.foundation.seeds import derive_seed; print(derive_seed(1, 'chip', 2))"
    for hash_seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(found.stdout) == derive_seed(1, "chip", 2)
