import copy
import json
import pickle
import subprocess
import sys

import pytest

from analogmed.config import to_plain
from analogmed.foundation.errors import ConfigError
from analogmed.models import Genotype, Level
from analogmed.models.genotype import VERSION


def described(**changes):
    """A valid genotype as a dictionary, with some of its entries replaced."""
    return {**Genotype((Level("B", 8, 3), Level("C", 16, 5))).to_dict(), **changes}


def level(**changes):
    """A valid genotype as a dictionary, whose first level has some entries replaced."""
    first = {"block": "B", "channels": 8, "kernel": 3, "down": "analog", "up": "analog"}
    return described(levels=[{**first, **changes}, {"block": "C", "channels": 16, "kernel": 3}])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(
            [Level("B", 8, 3), Level("identity", 4, 5)],
            [Level("B", 8, 3), Level("identity")],
            id="channels and kernel of an identity",
        ),
        pytest.param(
            [Level("B", 8, 3), Level("identity", down="digital", up="digital"), Level("B", 8, 3)],
            [Level("B", 8, 3), Level("identity"), Level("B", 8, 3)],
            id="place of an identity",
        ),
        pytest.param([Level("A", 8, 5)], [Level("A", 8, 3)], id="kernel of a linear block"),
        pytest.param(
            [Level("B", 8, 3), Level("zero"), Level("C", 8, 5, "digital")],
            [Level("B", 8, 3)],
            id="all below a zero",
        ),
        pytest.param(
            [Level("B", 8, 3), Level("zero", 4, 5, "digital", "digital")],
            [Level("B", 8, 3), Level()],
            id="genes of a zero",
        ),
        pytest.param(
            [Level("B", 8, 3), Level("C", 8, 3, up="digital")],
            [Level("B", 8, 3), Level("C", 8, 3)],
            id="way up of the innermost",
        ),
    ],
)
def test_genes_that_do_not_matter_make_no_difference(one, other):
    one, other = Genotype(tuple(one)), Genotype(tuple(other))
    assert one == other
    assert hash(one) == hash(other)
    assert one.to_json().encode() == other.to_json().encode()
    assert one.key == other.key
    assert str(one) == str(other)


def test_a_classification_has_no_way_up():
    ups = [
        Genotype((Level("B", 8, 3, up=up), Level("B", 8, 3)), purpose="classification")
        for up in ("analog", "digital")
    ]
    assert ups[0] == ups[1]
    assert ups[0].to_json() == ups[1].to_json()


@pytest.mark.parametrize(
    "changed",
    [
        {"block": "D"},
        {"channels": 9},
        {"kernel": 5},
        {"down": "digital"},
        {"up": "digital"},
    ],
)
def test_genes_that_matter_make_a_difference(changed):
    assert Genotype.of(level(**changed)) != Genotype.of(level())
    assert Genotype.of(level(**changed)).key != Genotype.of(level()).key


def test_the_way_up_of_equal_levels_is_kept_but_for_the_innermost():
    same = Level("B", 8, 3, up="digital")
    genotype = Genotype((same, same, same))
    assert [each.up for each in genotype.levels] == ["digital", "digital", *["analog"] * 3]


def test_the_levels_are_always_five_and_depth_counts_those_before_the_first_zero():
    for depth in range(1, 6):
        genotype = Genotype((Level("B", 8, 3),) * depth)
        assert (len(genotype.levels), genotype.depth) == (5, depth)
    assert Genotype([Level("B", 8, 3)]).levels == Genotype((Level("B", 8, 3),)).levels


def test_json_and_dictionaries_give_the_genotype_back():
    genotype = Genotype(
        (Level("H", 8, 5, "digital", "digital"), Level("identity"), Level("A", 3)), spatial_dims=3
    )
    assert Genotype.of(genotype) is genotype
    for given in (genotype.to_dict(), genotype.to_json(), json.loads(genotype.to_json())):
        assert Genotype.of(given) == genotype
    assert Genotype.of(json.dumps(genotype.to_dict(), indent=2)).to_json() == genotype.to_json()
    assert copy.deepcopy(genotype) == pickle.loads(pickle.dumps(genotype)) == genotype
    assert genotype.to_dict()["version"] == VERSION


def test_the_plain_form_of_a_run_folder_gives_the_genotype_back():
    genotype = Genotype((Level("B", 8, 3), Level("identity"), Level("A", 3)))
    assert Genotype.of(to_plain({"genotype": genotype})["genotype"]) == genotype


def test_entries_with_a_default_may_be_left_out():
    short = {"version": VERSION, "levels": [{"block": "B", "channels": 8, "kernel": 3}]}
    assert Genotype.of(short) == Genotype((Level("B", 8, 3),))


def test_the_key_is_the_same_in_every_process():
    genotype = Genotype((Level("B", 8, 3), Level("C", 16, 5)))
    code = f"from analogmed.models import Genotype; print(Genotype.of({genotype.to_json()!r}).key)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == genotype.key
    assert len(genotype.key) == 12


def test_the_short_text_names_blocks_channels_kernels_and_digital_places():
    levels = (Level("B", 8, 3, "digital"), Level("F", 16, 5, up="digital"), Level("A", 4))
    assert str(Genotype(levels)) == "2d:B8/d-F16k5/u-A4"


@pytest.mark.parametrize("version", [0, 2, None, "1", True, 1.0])
def test_another_version_is_refused(version):
    with pytest.raises(ConfigError, match=r"version .* knows version 1; build it with the anal"):
        Genotype.of(described(version=version))


def test_a_genotype_without_version_is_refused():
    given = described()
    del given["version"]
    with pytest.raises(ConfigError, match="it is of version None"):
        Genotype.of(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (level(block="Q"), "genotype: level 0: unknown block 'Q'; choose from: A, B"),
        (level(block="Identiti"), "unknown block 'Identiti'; did you mean 'identity'"),
        (described(level=[]), "unknown key 'level'; did you mean 'levels'"),
        (level(chanels=8), "level 0: unknown key 'chanels'; did you mean 'channels'"),
        (described(purpose="classify"), "purpose: unknown value 'classify'; did you mean"),
        (level(down="digitl"), "level 0: down: unknown value 'digitl'; did you mean"),
        (level(block="H"), "block H is 3D, in a 2D network"),
        (described(levels=[{"block": "identity"}]), "no level has a block with weights"),
        (described(levels=[]), "no level has a block with weights"),
        (
            described(levels=[{"block": "B", "channels": 8, "kernel": 3}] * 6),
            "at most 5 .* found 6",
        ),
    ],
)
def test_what_is_unknown_or_does_not_fit_is_refused_by_name(given, message):
    with pytest.raises(ConfigError, match=message):
        Genotype.of(given)


@pytest.mark.parametrize(
    ("spatial_dims", "offered"),
    [(2, "A, B, C, D, E, F, G, identity, zero"), (3, "A, H, I, J, K, L, M, identity, zero")],
)
def test_blocks_of_the_networks_own_dimensions_are_offered(spatial_dims, offered):
    given = level(block="Q") | {"spatial_dims": spatial_dims}
    with pytest.raises(ConfigError, match=f"unknown block 'Q'; choose from: {offered}$"):
        Genotype.of(given)


@pytest.mark.parametrize("value", [True, "8", 8.0, float("nan"), None, -1, 0, 1025, 2000, [8], {}])
def test_channels_are_whole_numbers(value):
    with pytest.raises(ConfigError, match="level 0: block B: expected 1 to 1024 channels"):
        Genotype.of(level(channels=value))
    with pytest.raises(ConfigError, match="expected 1 to 1024 channels"):
        Level("B", value, 3)


@pytest.mark.parametrize("value", [True, "3", 3.0, None, -3, 0, 1, 2, 4, 9, [3]])
def test_kernels_are_3_5_or_7(value):
    with pytest.raises(ConfigError, match="level 0: block B: expected a kernel of 3, 5 or 7"):
        Genotype.of(level(kernel=value))


@pytest.mark.parametrize("value", [None, 3, True, ["B"], {}])
def test_a_block_is_a_name(value):
    with pytest.raises(ConfigError, match="level 0: unknown block"):
        Genotype.of(level(block=value))


@pytest.mark.parametrize("value", [None, 1, True, ["analog"], {}])
@pytest.mark.parametrize("way", ["down", "up"])
def test_a_place_is_a_name(way, value):
    with pytest.raises(ConfigError, match=f"level 0: {way}: unknown value"):
        Genotype.of(level(**{way: value}))


@pytest.mark.parametrize("value", [1, 4, True, "2", 2.0, None, [2]])
def test_dimensions_are_2_or_3(value):
    with pytest.raises(ConfigError, match="spatial_dims: expected 2 or 3"):
        Genotype.of(described(spatial_dims=value))


@pytest.mark.parametrize("value", [None, 3, "BC", b"BC", {}, {"block": "B"}])
def test_levels_are_a_list(value):
    with pytest.raises(ConfigError, match="expected a list of levels"):
        Genotype.of(described(levels=value))


@pytest.mark.parametrize("value", [None, 3, "B", ["B", 8]])
def test_a_level_is_an_object(value):
    with pytest.raises(ConfigError, match="level 0: expected an object"):
        Genotype.of(described(levels=[value]))
    with pytest.raises(ConfigError, match="expected Level objects"):
        Genotype((value,))


@pytest.mark.parametrize("value", [None, 3, [], b"{}"])
def test_a_genotype_is_an_object(value):
    with pytest.raises(ConfigError, match="genotype: expected an object"):
        Genotype.of(value)


@pytest.mark.parametrize("text", ["", "{", "B8-C16", "[" * 100_000, '{"version": 1' + "0" * 5000])
def test_damaged_json_is_refused(text):
    with pytest.raises(ConfigError, match="genotype: not JSON"):
        Genotype.of(text)


@pytest.mark.parametrize("text", ["3", "null", "[1]", '"B"'])
def test_json_that_is_no_object_is_refused(text):
    with pytest.raises(ConfigError, match="genotype: expected an object"):
        Genotype.of(text)
