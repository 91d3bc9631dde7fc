import pytest
import torch
from torch import nn

from analogmed.network.trace import Call, Skip, storages_of, trace


class Residual(nn.Module):
    """Adds its input back after two convolutions; keeps a constant all along."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(2, 2, 1)
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x):
        constant = torch.ones(x.shape, device=x.device, dtype=x.dtype) * 2
        y = self.second(torch.relu(self.first(x)))
        return self.last(y + x) + constant


NAMES = ("last", "first", "second")


def test_calls_come_in_the_order_of_execution():
    calls = trace(Residual(), NAMES, (1, 2, 5, 6)).calls
    macs = 4 * 2 * 9 * 30
    assert calls == (Call("first", 30, macs), Call("second", 30, macs), Call("last", 30, 4 * 30))


def test_a_skip_lives_from_where_it_is_made_to_where_it_is_read_last():
    assert trace(Residual(), NAMES, (1, 2, 5, 6)).skips == (Skip(-1, 1, 2 * 30),)


def test_what_the_next_layer_reads_is_no_skip():
    chain = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(1, 1, 1))
    assert trace(chain, ["0", "2"], (1, 1, 4, 4)).skips == ()


class Late(nn.Module):
    """Reads a view of its first feature map long after it was made; the map is padded in place."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(4))

    def forward(self, x):
        early = self.convs[0](x)
        early.add_(1)
        later = self.convs[2](self.convs[1](early))
        return self.convs[3](later.flatten(2) + early.flatten(2)[None, 0]).sum()


def test_a_view_is_the_memory_that_it_looks_at():
    found = trace(Late(), [f"convs.{n}" for n in range(4)], (1, 1, 4, 4))
    assert found.skips == (Skip(0, 2, 16),)


class DataDependent(Residual):
    def forward(self, x):
        return super().forward(x) if x.sum().item() == 0 else x


@pytest.mark.parametrize("spatial", [(5, 6)])
def test_a_network_run_on_zeros_has_the_same_trace(spatial):
    shape = (1, 2, *spatial)
    assert trace(DataDependent(), NAMES, shape) == trace(Residual(), NAMES, shape)


class Adapted(nn.Linear):
    """A layer that holds further layers, as low-rank adapters do."""

    def __init__(self):
        super().__init__(8, 8)
        self.down, self.up = nn.Linear(8, 2), nn.Linear(2, 8)

    def forward(self, x):
        return super().forward(x) + self.up(self.down(x))


def test_a_layer_that_holds_others_is_called_before_them():
    model = nn.Sequential(nn.Linear(8, 8), Adapted(), nn.Linear(8, 8))
    names = ["0", "1", "1.down", "1.up", "2"]
    traced = trace(model, names, (1, 8))
    assert [call.layer for call in traced.calls] == names


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_tensors_without_a_storage_are_left_out():
    dense = torch.ones(2, 2)
    lazy = nn.LazyLinear(1).weight
    tree = {"a": [dense, dense.view(4), lazy], "b": (dense.to_sparse(), dense.to_sparse_csr(), 1)}
    assert list(storages_of(tree)) == [dense.untyped_storage()._cdata]


def test_random_numbers_of_a_forward_pass_leave_the_global_state():
    class Dropping(nn.Linear):
        def forward(self, x):
            return super().forward(nn.functional.dropout(x, 0.5, True))

    network = nn.Sequential(Dropping(4, 4))
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    trace(network, ["0"], (1, 4))
    assert torch.equal(torch.rand(3), expected)
