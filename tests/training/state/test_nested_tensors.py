import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from analogmed.training.state.nested_tensors import read_nested, write_nested

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=("Cs",)))
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(SCALARS, inner)
        | st.dictionaries(st.sampled_from(("a", "a.b", "$tensor", "$items", "")), inner)
    ),
    max_leaves=20,
)


def written(path, nested):
    write_nested(path, nested)
    return read_nested(path)


@given(NESTED)
def test_what_is_read_is_what_was_written(tmp_path_factory, nested):
    found = written(tmp_path_factory.getbasetemp() / "nested.safetensors", nested)
    assert repr(found) == repr(nested)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 4),
        torch.randn(3, 4, dtype=torch.float64).t(),
        torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        torch.randn(6)[::2],
        torch.tensor(float("nan")),
        torch.tensor(2**40),
        torch.tensor([True, False]),
        torch.randn(5).to(torch.bfloat16),
        torch.empty(0, 3),
        torch.get_rng_state(),
    ],
    ids=lambda tensor: f"{tensor.dtype} {tuple(tensor.shape)}",
)
def test_tensors_of_any_kind_come_back_bit_by_bit(tmp_path, tensor):
    found = written(tmp_path / "nested.safetensors", {"t": [tensor]})["t"][0]
    assert found.dtype == tensor.dtype
    assert torch.equal(found.nan_to_num(7.0), tensor.nan_to_num(7.0))
    assert found.shape == tensor.shape


def test_arrays_and_numpys_numbers_come_back(tmp_path):
    arrays = [np.arange(6, dtype=np.uint32).reshape(2, 3).T, np.array(2.5), np.array([True])]
    found = written(
        tmp_path / "n.safetensors", {"a": arrays, "n": np.float64(0.1), "i": np.int8(3)}
    )
    for array, other in zip(arrays, found["a"], strict=True):
        assert array.dtype == other.dtype
        np.testing.assert_array_equal(array, other)
    assert (found["n"], found["i"]) == (0.1, 3)


def test_a_tensor_under_two_names_is_written_once(tmp_path):
    weight = torch.randn(1000)
    path = tmp_path / "nested.safetensors"
    found = written(path, {"a": weight, "b": [weight], "part": weight[:10]})
    assert torch.equal(found["a"], weight)
    assert torch.equal(found["b"][0], weight)
    assert torch.equal(found["part"], weight[:10])
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == {"a", "part"}


def test_names_that_read_alike_are_told_apart(tmp_path):
    nested = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}}
    found = written(tmp_path / "nested.safetensors", nested)
    assert (found["a.b"].item(), found["a"]["b"].item()) == (0.0, 1.0)


def test_a_value_of_another_type_is_named_with_its_place(tmp_path):
    with pytest.raises(TypeError, match=r"history\.0\.when is a set"):
        write_nested(tmp_path / "nested.safetensors", {"history": [{"when": {1}}]})


def test_every_changed_bit_is_noticed(tmp_path):
    path = tmp_path / "nested.safetensors"
    write_nested(path, {"weight": torch.randn(20), "epoch": 12})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(Exception, match=r".") as caught:
            read_nested(path)
        assert not isinstance(caught.value, AssertionError)


def test_a_file_of_other_origin_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"x": json.dumps(1)})
    with pytest.raises(ValueError, match="does not say what its tensors are"):
        read_nested(tmp_path / "a.safetensors")
