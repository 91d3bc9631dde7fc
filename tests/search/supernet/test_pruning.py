import math

import pytest

from analogmed.cli.parse import parse
from analogmed.foundation.errors import ConfigError
from analogmed.models import Genotype, Level
from analogmed.search.space.space import Space
from analogmed.search.supernet.latency import Latencies
from analogmed.search.supernet.path_sampling import ReducedSpace
from analogmed.search.supernet.pruning import PrunedOperation, Pruning
from analogmed.search.supernet.settings import PruningConfig, SupernetConfig

SPACE = Space(depths=(1, 2), blocks=("A", "B", "C"), widths=(4,), growths=(1,), kernels=(3,))
SECONDS = {"A": 1.0, "B": 2.0, "C": 4.0}


def pruning(**settings):
    latencies = Latencies({(level, name): SECONDS[name] for level in (0, 1) for name in SECONDS})
    return Pruning(ReducedSpace.of(SPACE), PruningConfig(**settings), latencies)


def network(*names):
    return Genotype(tuple(Level(name, 4, 3) for name in names))


def test_the_operation_with_the_least_dice_for_its_time_leaves_each_level():
    """Level 0: A 0.1/1, B 0.6/2, C 0.8/4; level 1: A 0.8/1, B 0.1/2, C 0.6/4."""
    following = pruning(every=1)
    for first, second, dice in [("A", "B", 0.1), ("B", "C", 0.6), ("C", "A", 0.8)]:
        following.observe(network(first, second), dice)
    assert following.score(0, "B") == pytest.approx(0.3)
    assert following.after_epoch(1) == [
        PrunedOperation(1, 0, "A", 0.1, 1.0),
        PrunedOperation(1, 1, "B", 0.1, 2.0),
    ]
    assert following.choices.blocks == (("B", "C"), ("A", "C"))
    assert following.after_epoch(2) == [
        PrunedOperation(2, 0, "C", 0.8, 4.0),
        PrunedOperation(2, 1, "C", 0.6, 4.0),
    ]
    assert following.after_epoch(3) == []
    assert following.choices.blocks == (("B",), ("A",))


def test_dice_is_a_running_average():
    following = pruning(every=1, decay=0.75)
    for dice in (0.4, 0.8, math.nan, 0.0):
        following.observe(network("A"), dice)
    assert following.score(0, "A") == pytest.approx(0.75 * (0.75 * 0.4 + 0.25 * 0.8))
    assert math.isnan(following.score(1, "A"))


def test_prunings_come_every_so_many_epochs_after_the_warm_up():
    following = pruning(every=2, warm_up=3)
    for name in SECONDS:
        following.observe(network(name, name), 0.5)
    assert [bool(following.after_epoch(epoch)) for epoch in range(1, 9)] == [
        *(False, False, False, False, True, False, True, False)
    ]


def test_nothing_leaves_unless_it_is_asked_for():
    following = pruning()
    following.observe(network("A", "A"), 0.1)
    assert not any(following.after_epoch(epoch) for epoch in range(1, 20))


def test_each_level_keeps_as_many_operations_as_it_shall():
    following = pruning(every=1, keep=2)
    for name in SECONDS:
        following.observe(network(name, name), 0.5)
    for epoch in range(1, 6):
        following.after_epoch(epoch)
    assert following.choices.blocks == (("A", "B"), ("A", "B"))


def test_an_operation_that_was_never_used_stays():
    following = pruning(every=1)
    following.observe(network("A"), 0.9)
    assert following.after_epoch(1) == [PrunedOperation(1, 0, "A", 0.9, 1.0)]
    assert following.choices.blocks == (("B", "C"), ("A", "B", "C"))


def test_it_goes_on_from_its_state_as_if_nothing_had_happened():
    first, second = pruning(every=1), pruning(every=1)
    for number, name in enumerate(SECONDS):
        first.observe(network(name, name), 0.1 + 0.2 * number)
    first.after_epoch(1)
    second.load_state_dict(first.state_dict())
    for each in (first, second):
        each.observe(network("B", "C"), 0.3)
        each.after_epoch(2)
    assert second.state_dict() == first.state_dict()
    assert second.choices == first.choices


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"pruning\.keep must be 1 or more"):
        PruningConfig(keep=0)
    with pytest.raises(ConfigError, match=r"pruning\.decay"):
        PruningConfig(decay=1.0)


@pytest.mark.parametrize(
    ("settings", "epoch"),
    [
        ({"every": 20, "warm_up": 40}, 40 + 20 * 7),
        ({"every": 20, "warm_up": 40, "keep": 3}, None),
        ({"every": 0}, None),
    ],
)
def test_the_epoch_after_which_one_path_is_left(settings, epoch):
    assert PruningConfig(**settings).one_path_after(8) == epoch


def test_pruning_leaves_one_path_after_that_epoch():
    following = pruning(every=2, warm_up=1)
    for first, second in [("A", "B"), ("B", "C"), ("C", "A")]:
        following.observe(network(first, second), 0.5)
    most = max(map(len, following.choices.blocks))
    epoch = PruningConfig(every=2, warm_up=1).one_path_after(most)
    for number in range(1, epoch):
        following.after_epoch(number)
    assert max(map(len, following.choices.blocks)) == 2
    following.after_epoch(epoch)
    assert max(map(len, following.choices.blocks)) == 1


@pytest.mark.parametrize("name", ["brain", "hippocampus"])
def test_the_shipped_configurations_leave_a_search_a_choice(name):
    words = ["--config", f"configs/supernet-mias-{name}.yaml"]
    config = parse(SupernetConfig, words, prog="supernet")
    assert config.pruning.keep > 1
