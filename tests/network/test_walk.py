import pytest
from torch import nn

from analogmed.network.walk import hooked


def test_hooks_are_removed_after_the_block_and_after_an_error():
    layers = nn.ModuleList(nn.Identity() for _ in range(2))

    def handles(last=lambda: None):
        for layer in layers:
            yield layer.register_forward_hook(lambda *_: None)
        last()

    def fails():
        raise ValueError("no third layer")

    with hooked(handles()):
        assert [len(layer._forward_hooks) for layer in layers] == [1, 1]
    assert [len(layer._forward_hooks) for layer in layers] == [0, 0]
    with pytest.raises(ValueError, match="no third layer"), hooked(handles(fails)):
        pass
    assert [len(layer._forward_hooks) for layer in layers] == [0, 0]
