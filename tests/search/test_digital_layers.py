import shlex
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import yaml

from analogmed.cli.main import run_command
from analogmed.cli.parse import parse
from analogmed.config import Experiment, ModelConfig, SweepConfig
from analogmed.evaluation import evaluate
from analogmed.evaluation.studies.placement.study import place_layers
from analogmed.evaluation.studies.sensitivity.settings import PlacementConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.time_constants import DAY_S
from analogmed.hardware import map_tiles
from analogmed.models import Genotype, Level, build_model
from analogmed.search.digital_layers import layers_of, refuse_unknown
from analogmed.search.evaluator import make_evaluator
from analogmed.search.run import search
from analogmed.search.settings import CandidateConfig, SearchConfig, StrategyConfig
from analogmed.search.space.space import Space
from analogmed.training import TrainConfig, train

main = partial(run_command, "search")

pytestmark = pytest.mark.slow

SPACE = Space(depths=(1, 2), blocks=("A", "C"), widths=(2, 4), growths=(1,), kernels=(3,))
CONVOLUTIONS = Genotype((Level("C", 4, 3), Level("C", 4, 3)))


def test_a_network_keeps_only_the_layers_digital_that_it_has():
    patterns = ("head", "levels.0.down.0", "levels.1.down.linear", "levels.*.up")
    assert layers_of(CONVOLUTIONS, patterns) == ("head", "levels.0.down.0", "levels.*.up")
    linear = Genotype((Level("A", 4), Level("A", 4)))
    assert layers_of(linear, patterns) == ("head", "levels.1.down.linear", "levels.*.up")
    assert layers_of(Genotype((Level("A", 4),)), patterns) == ("head",)


@pytest.mark.parametrize("space", [Space(), Space(spatial_dims=3, depths=(1, 2, 3))])
def test_every_layer_of_every_network_of_a_space_may_be_named(space):
    generator = np.random.default_rng(0)
    for _ in range(50):
        genotype = space.random(generator)
        network = build_model(
            "subnet",
            in_channels=1,
            out_channels=1,
            spatial_dims=space.spatial_dims,
            genotype=genotype.to_dict(),
        )
        names = tuple(name for name, _ in network.named_modules() if name)
        refuse_unknown(names, space)
        assert layers_of(genotype, names) == names


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("encoder1.conv1", "no network of the space has a layer 'encoder1.conv1'; they are called"),
        ("levels.2.down.0", "did you mean 'levels.1.down.0'"),
    ],
)
def test_layers_of_other_networks_are_refused(pattern, message):
    with pytest.raises(ConfigError) as caught:
        SearchConfig(space=SPACE, digital_layers=("head", pattern))
    assert message in str(caught.value)
    assert "placement" not in str(caught.value)


def test_a_placement_of_another_network_is_refused_as_such(tmp_path):
    path = tmp_path / "placement.yaml"
    path.write_text("digital_layers: [heads]\n")
    with pytest.raises(ConfigError, match=r"did you mean 'head'\?; a placement of a network that"):
        SearchConfig(space=SPACE, digital_layers=(str(path),))


def test_digital_layers_are_not_for_free():
    with pytest.raises(ConfigError, match="so that digital layers would be free"):
        SearchConfig(space=SPACE, digital_layers=("head",), objectives=("dice_1d", "latency_ms"))


@pytest.mark.parametrize(
    ("known", "metric", "missing"),
    [
        ("digital_gmac_per_s: 20", "energy_mj", "digital_pj_per_mac"),
        ("digital_pj_per_mac: 1.2", "latency_ms", "digital_gmac_per_s"),
    ],
)
def test_time_and_energy_of_digital_layers_are_known_each_for_itself(
    known, metric, missing, tmp_path
):
    path = tmp_path / "chip.yaml"
    path.write_text(
        "name: chip\ntitle: a chip\ntile_size: [256, 256]\n"
        "mvm_only: {time_ns: 100, energy_nj: 10, source: a closed form}\n" + known + "\n"
    )
    other = {"latency_ms": "energy_mj", "energy_mj": "latency_ms"}[metric]
    settings = {"space": SPACE, "digital_layers": ("head",), "profile": str(path)}
    SearchConfig(**settings, objectives=("dice_1d", other))
    with pytest.raises(ConfigError, match=f"{metric}: profile .* has no {missing}"):
        SearchConfig(**settings, objectives=("dice_1d", metric))


@pytest.fixture(scope="module")
def placement(tiny_task, tmp_path_factory):
    """The placement.yaml of a small network of the space, for which digital layers are fast."""
    out = tmp_path_factory.mktemp("placement")
    model = ModelConfig("subnet", {"genotype": CONVOLUTIONS.to_dict()})
    trained = train(TrainConfig(task=tiny_task, model=model, epochs=2, out=out / "network"))
    place_layers(
        PlacementConfig(
            task=tiny_task,
            checkpoints=(trained,),
            sweep=SweepConfig(chips=1, times_s=(DAY_S,)),
            every_nth_slice=4,
            loss=0.5,
            digital_gmac_per_s=1e3,
            out=out,
        )
    )
    return out / "placement.yaml"


@pytest.fixture(scope="module")
def config(tiny_task, placement, tmp_path_factory):
    return SearchConfig(
        task=tiny_task,
        space=replace(SPACE, blocks=("C",), depths=(2,)),
        strategy=StrategyConfig("random"),
        digital_layers=(str(placement),),
        budget=2,
        candidate=CandidateConfig(epochs=1, hwa_epochs=1, batch_size=8, chips=1),
        final_epochs=2,
        out=tmp_path_factory.mktemp("search"),
    )


@pytest.fixture(scope="module")
def found(config):
    return search(config)


def test_a_placement_is_a_setting_of_a_search(config, placement):
    layers = yaml.safe_load(placement.read_text())["digital_layers"]
    assert 0 < len(layers) < 5
    assert config.digital_layers == tuple(layers)


def test_candidates_are_trained_and_counted_with_these_layers_digital(found, config):
    for row in found.candidates.query("status == 'evaluated'").to_dict("records"):
        genotype = Genotype.of(row["genotype"])
        network = build_model("subnet", in_channels=3, out_channels=1, genotype=genotype)
        shape, digital = (1, 3, 32, 32), layers_of(genotype, config.digital_layers)
        mapped = map_tiles(network, shape, 512, row_split="even", digital_layers=digital)
        assert row["tiles"] == mapped.summary()["tiles"] < 5
        folder = config.out / "trials" / f"{row['number']:04d}-{row['key']}"
        for training in ("digital", "hwa"):
            settings = yaml.safe_load((folder / training / "training.yaml").read_text())
            assert settings["digital_layers"] == list(digital)


def test_candidates_are_compared_with_these_layers_digital(found, config, tmp_path):
    number, genotype = found.best
    evaluator = make_evaluator(
        config, replace(config.task, split_file=config.out / "selection.json")
    )
    checkpoint = config.out / "trials" / f"{number:04d}-{genotype.key}" / "hwa"
    layers = layers_of(genotype, config.digital_layers)
    experiment = replace(evaluator.experiment(checkpoint, layers), examples=0, out=tmp_path)
    with pytest.warns(UserWarning, match="stays digital: asked for"):
        dice = evaluate(experiment).summary().loc[0, "dice_1d"]
    assert found.front["dice_1d"].iloc[0] == pytest.approx(dice, abs=1e-9)
    with pytest.warns(UserWarning, match="digital, here on tiles"):
        tiles = evaluate(replace(experiment, digital_layers=(), out=tmp_path / "tiles"))
    on_tiles = tiles.summary()
    assert on_tiles.loc[0, "dice_1d"] != pytest.approx(dice, abs=1e-9)


def test_the_printed_evaluation_keeps_these_layers_digital(found, config, tmp_path, capsys):
    main(["--config", str(config.out / "search.yaml")])
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    experiment = parse(Experiment, command[2:], prog="eval")
    assert experiment.digital_layers == layers_of(found.best[1], config.digital_layers)
    sweep = SweepConfig(chips=1, times_s=(0.0,))
    with pytest.warns(UserWarning, match="stays digital: asked for"):
        costs = evaluate(replace(experiment, sweep=sweep, examples=0, out=tmp_path)).costs
    assert set(costs["tiles"]) == {found.front["tiles"].iloc[0]}


def test_epochs_of_the_winner_are_told_and_those_of_candidates_are_not(config, tmp_path, capsys):
    another = replace(config, budget=1, out=tmp_path / "another")
    (tmp_path / "search.yaml").write_text((config.out / "search.yaml").read_text())
    main(["--config", str(tmp_path / "search.yaml"), "--budget=1", f"--out={another.out}"])
    told = capsys.readouterr().err.splitlines()
    epochs = [line for line in told if ": epoch " in line]
    assert [line.split(",")[0] for line in epochs] == [
        f"subnet {training} on phantom_brain: epoch {epoch}/2"
        for training in ("digital", "hwa")
        for epoch in (1, 2)
    ]
    assert told.index(epochs[0]) > next(i for i, line in enumerate(told) if "1 of 1: trial" in line)
