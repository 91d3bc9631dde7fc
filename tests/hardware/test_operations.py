import pytest
import torch
from torch import nn

from analogmed.foundation.errors import ShapeError
from analogmed.hardware import record
from analogmed.models import build_model


def kinds(model, shape):
    return {
        (operation.operation, operation.norm, operation.activation): count
        for operation, count in record(model, shape).counts.items()
    }


def test_norm_and_activation_belong_to_the_convolution_before_them():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, dilation=2, padding=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(True)
    )
    (operation,) = record(model, (1, 3, 16, 12)).counts
    assert (operation.operation, operation.norm, operation.activation) == (
        "Conv2d", "BatchNorm2d", "ReLU",
    )  # fmt: skip
    assert (operation.kernel, operation.dilation) == ("3x3", "2x2")
    assert (operation.in_channels, operation.out_channels) == ("3", "8")
    assert (operation.spatial, operation.dtype) == ("16x12", "float32")


def test_an_activation_elsewhere_is_an_operation_of_its_own():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(2), nn.ReLU(), nn.InstanceNorm2d(1))
    assert kinds(model, (1, 1, 8, 8)) == {
        ("Conv2d", "", ""): 1,
        ("MaxPool2d", "", ""): 1,
        ("ReLU", "", ""): 1,
        ("InstanceNorm2d", "", ""): 1,
    }


class Branch(nn.Module):
    """The activation does not follow the convolution that was called last."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.act = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.ReLU()

    def forward(self, x):
        one, two = self.one(x), self.two(x)
        return torch.cat([self.act(one), two.flatten(2).unflatten(2, x.shape[2:])], 1)


def test_functions_outside_of_layers_count_and_views_do_not():
    assert kinds(Branch(), (1, 1, 8, 8)) == {
        ("Conv2d", "", ""): 2,
        ("ReLU", "", ""): 1,
        ("aten.cat.default", "", ""): 1,
    }


def test_layers_that_do_nothing_in_use_are_none():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout(0.5), nn.Identity(), nn.ReLU())
    assert kinds(model, (1, 1, 8, 8)) == {("Conv2d", "", "ReLU"): 1}


def test_equal_operations_are_one_entry_counted_twice():
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1, bias=False))
    assert sorted(record(model, (1, 2, 4, 4)).counts.values()) == [1, 2]


@pytest.mark.parametrize(
    ("name", "options"),
    [("unet", {"features": 4}), ("swin_unetr", {"feature_size": 12}), ("dynunet", {"window": 32})],
)
def test_every_operation_of_a_network_can_be_run_by_itself(name, options):
    model = build_model(name, in_channels=1, out_channels=2, **options)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = record(model, (1, 1, 64, 64))
    assert found.counts.keys() == found.runs.keys()
    with torch.inference_mode():
        for prepare in found.runs.values():
            prepare()()
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(not module._forward_hooks for module in model.modules())


def test_two_recordings_of_a_network_have_the_same_operations():
    model = build_model("unetpp", in_channels=1, out_channels=1, features=(4, 4, 8, 8, 8, 4))
    assert record(model, (1, 1, 32, 32)).counts == record(model, (1, 1, 32, 32)).counts


def test_an_input_that_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match=r"Conv2d cannot be run on .*\(1, 2, 8, 8\)"):
        record(nn.Conv2d(3, 1, 1), (1, 2, 8, 8))


class Own(nn.Module):
    """Two products with weights of its own, and no ``extra_repr``."""

    def __init__(self, n):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.ones(64, n)), nn.Parameter(torch.ones(n, 64))

    def forward(self, x):
        return x @ self.first @ self.second


def test_own_layers_of_other_sizes_are_other_operations():
    counts = record(nn.Sequential(Own(8), Own(512), Own(8)), (1, 1, 256, 64)).counts
    assert sorted(counts.values()) == [1, 2]
    (small,) = [operation for operation, count in counts.items() if count == 2]
    assert "first[64x8] second[8x64]" in small.arguments


def test_own_layers_of_one_name_and_two_classes_are_two_operations():
    def made(factor):
        class Scaled(nn.Module):
            def forward(self, x):
                return factor * x

        Scaled.__qualname__ = f"made_{factor}.Scaled"
        return Scaled()

    counts = record(nn.Sequential(made(2), made(3)), (1, 1, 4, 4)).counts
    assert [operation.operation for operation in counts] == ["Scaled", "Scaled"]


def test_a_subclass_without_a_forward_of_its_own_is_one_layer():
    class Named(nn.Conv2d):
        pass

    (operation,) = record(nn.Sequential(Named(1, 2, 3), nn.ReLU()), (1, 1, 8, 8)).counts
    assert (operation.operation, operation.activation) == ("Named", "ReLU")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_other_numbers_are_recorded_with_them(dtype):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).to(dtype)
    recorded = record(model, (1, 1, 8, 8))
    (operation,) = recorded.counts
    assert operation.dtype == str(dtype).removeprefix("torch.")
    assert recorded.runs[operation]()().dtype is dtype
