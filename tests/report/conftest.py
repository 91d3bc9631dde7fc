import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.axis import Tick
from matplotlib.text import Text

from analogmed.config import Experiment, to_yaml
from analogmed.evaluation.examples import write_example
from analogmed.evaluation.statistics import compare_models, time_to_failure
from analogmed.evaluation.summaries.chip_losses import chip_losses
from analogmed.evaluation.summaries.summary import COLUMNS, over_time, summarise
from analogmed.foundation.time_constants import DAY_S
from analogmed.tables.estimates import ENDS
from analogmed.tables.robustness import CHIP_LOSSES, COMPARISON, CURVES, SUMMARY, TIME_TO_FAILURE

TIMES_S = (0.0, 1.0, 3_600.0, 86_400.0, 604_800.0, 2_592_000.0, 31_536_000.0)
LOSS_AT_T0 = {"unet": 0.15, "unetpp": 0.22, "swin_unetr": 0.04}


def simulated_results(seed=0):
    """Six patients and four chips, with the losses right after programming of the seed paper."""
    generator = np.random.default_rng(seed)
    rows = []
    for model, loss in LOSS_AT_T0.items():
        for training, share in (("digital", 1.0), ("hwa", 0.3)):
            chips = share * generator.normal(0.0, 0.02, 4)
            for patient in range(6):
                digital = 0.85 + generator.normal(0.0, 0.05)
                row = {
                    "task": "lgg", "model": model, "training": training, "hardware": "digital",
                    "chip": None, "time_s": np.nan, "read": None, "case": f"case{patient}",
                    "patient": f"patient{patient}", "class": "tumour", "metric": "dice",
                    "value": digital, "unit": "1", "note": "",
                }  # fmt: skip
                rows.append(row)
                for chip, effect in enumerate(chips):
                    for time_s in TIMES_S:
                        value = digital - share * loss * (1 + np.log10(1 + time_s) / 10) + effect
                        place = {"hardware": "pcm", "chip": chip, "time_s": time_s, "read": 0}
                        rows.append(row | place | {"value": value})
    return pd.DataFrame(rows, columns=COLUMNS).astype({"chip": "Int64", "read": "Int64"})


@pytest.fixture(scope="session")
def _results():
    return simulated_results()


@pytest.fixture(scope="session")
def _computed(_results):
    return summarise(_results, n_boot=100), over_time(_results, n_boot=100)


@pytest.fixture
def summary(_computed):
    return _computed[0].copy()


@pytest.fixture
def curves(_computed):
    return _computed[1].copy()


@pytest.fixture(scope="session")
def _files(_results, _computed, tmp_path_factory):
    """Run folder of an evaluation of three models, without example cases."""
    folder = tmp_path_factory.mktemp("evaluation")
    SUMMARY.write(_computed[0], folder)
    CURVES.write(_computed[1], folder)
    CHIP_LOSSES.write(chip_losses(_results), folder)
    COMPARISON.write(compare_models(_results, n_boot=100), folder)
    TIME_TO_FAILURE.write(time_to_failure(_computed[1], 0.7), folder)
    (folder / "experiment.yaml").write_text(to_yaml(Experiment()))
    environment = {"command": ["eval.py", "--seed", "0"], "versions": {"analogmed": "0.1.0"}}
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


@pytest.fixture(scope="session")
def make_run(_files):
    """Writes a run folder of an evaluation of three models, with one example case."""

    def make(
        folder,
        *,
        case="case0",
        classes=("tumour",),
        planes=("slice",),
        variance=False,
        models=("unet",),
    ):
        shutil.copytree(_files, folder)
        about, arrays = example(case, classes, planes, variance=variance, models=models)
        write_example(folder / "examples" / "0-worst.npz", about, arrays)
        return folder

    return make


def example(case, classes, planes, *, variance, models):
    """A case of squares: the prediction of network n at time t is n + t pixels to the right."""
    networks = [[model, training] for model in models for training in ("digital", "hwa")]
    times_s, n_networks = [0.0, 86_400.0, 2_592_000.0], len(networks)
    about = {
        "format": 1, "task": "lgg", "case": case, "patient": "patient0", "place": "worst",
        "hardware": "pcm", "classes": list(classes), "pictures": ["FLAIR"],
        "planes": list(planes), "networks": networks, "times_s": times_s,
    }  # fmt: skip
    label = np.zeros((24, 32), np.uint8)
    for index in range(len(classes)):
        label[4 + 10 * index : 10 + 10 * index, 6:14] = index + 1
    moved = np.stack(
        [np.stack([np.roll(label, n + t, 1) for t in range(4)]) for n in range(n_networks)]
    )
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (24, 1))
    arrays = {
        "dice_digital": np.linspace(0.95, 0.9, n_networks),
        "dice": np.arange(3 * n_networks).reshape(n_networks, 3) / (5 * n_networks),
    }
    for plane in planes:
        arrays |= {
            f"image_{plane}": ramp[None], f"label_{plane}": label,
            f"spacing_{plane}": np.array([2.0, 1.0]),
            f"digital_{plane}": moved[:, 0], f"pred_{plane}": moved[:, 1:],
        }  # fmt: skip
        label, moved, ramp = label.T, moved.swapaxes(2, 3), ramp.T
        if variance:
            shape = arrays[f"pred_{plane}"].shape
            arrays[f"variance_{plane}"] = np.linspace(0, 0.2, np.prod(shape)).reshape(shape)
    return about, arrays


@pytest.fixture
def texts_of(monkeypatch):
    """Draws a figure and returns it with its texts, except labels of ticks, and their boxes."""

    def get(draw, table, width_in):
        drawn = []
        module = sys.modules[draw.__module__]
        monkeypatch.setattr(module, "save_figure", lambda figure, path: drawn.append(figure))
        draw(table, "figure.svg", width_in=width_in)
        (figure,) = drawn
        figure.draw_without_rendering()
        ticks = {label for tick in figure.findobj(Tick) for label in (tick.label1, tick.label2)}
        texts = [text for text in figure.findobj(Text) if text not in ticks and text.get_text()]
        return figure, [(text, text.get_window_extent()) for text in texts]

    return get


@pytest.fixture(scope="session")
def tables_of():
    """Function that returns the tables of a small run of a study or a training, by name."""

    def make(kind):
        if kind == "uncertainty":
            return dict(zip(("summary", "comparison"), _uncertainty(), strict=True))
        return {
            "sensitivity": lambda: {"ranking": _ranking()},
            "placement": lambda: {"placements": _steps(), "ranking": _ranking()},
            "mitigation": lambda: {"summary": _mitigation()},
            "training": lambda: {"log": _log()},
        }[kind]()

    return make


def _log():
    rows = {"epoch": [1, 2], "step": [4, 8], "loss": [0.7, 0.5], "learning_rate": [0.01, 0.0]}
    return pd.DataFrame(rows | {"dice": [np.nan, 0.6], "seconds": [1.0, 1.0]})


def _spread(name, value, width=0.01):
    return dict(
        zip((name + end for end in ENDS), (value, value - width, value + width), strict=True)
    )


def _ranking():
    counts = {"n_patients": 7, "n_chips": 5, "level": 0.95, "note": ""}
    rows = [
        {"setting": setting, "subject": subject, "time_s": DAY_S, "rank": place + 1}
        | _spread("effect", 0.03 - 0.02 * place)
        | _spread("drop", 0.03)
        | counts
        for setting, subjects in (
            ("only_analog", ("head", "encoder1")), ("noise_alone", ("drift", "programming")),
        )
        for place, subject in enumerate(subjects)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _steps():
    shared = {
        "objective": "latency", "loss": 0.05, "profile": "hermes-1-phase", "energy_mj": np.nan,
        "level_of_profile": "mvm_only", "n_patients": 7, "n_chips": 5, "level": 0.95, "tiles": 9,
        "worst_time_s": DAY_S,
    }  # fmt: skip
    rows = [
        {"layer": layer, "digital": layer, "digital_layers": n, "predicted_drop": drop}
        | {"latency_ms": 2.0 + n, "kept": True, "pareto": True, "chosen": n == 1}
        | _spread("drop", drop)
        | shared
        for n, (layer, drop) in enumerate((("", 0.08), ("head", 0.03)))
    ]
    return pd.DataFrame(rows)


def _mitigation():
    rows = [
        {"model": "unet", "training": "hwa", "time_s": DAY_S, "option": option, "metric": metric}
        | _spread("value", 0.8)
        | _spread("gain", 0.02 if option == "batchnorm" else np.nan)
        | {"images": 32, "labelled_images": 0, "passes": 32, "parameters": 8}
        | {"n_patients": 7, "n_chips": 5, "level": 0.95}
        for option in ("none", "batchnorm")
        for metric in ("dice", "ece_band", "nll_band")
    ]
    return pd.DataFrame(rows)


def _uncertainty():
    place = {"task": "lgg", "model": "unet", "source": "chips", "time_s": DAY_S, "region": "band"}
    means = {"mean_variance": 0.01, "mean_read_variance": 0.008, "mean_chip_variance": 0.002}
    rows = [
        place | {"training": training, "metric": metric, "n_patients": 7, "level": 0.95}
        | {"estimate": value, "low": value / 2, "high": 2 * value}
        for training in ("digital", "hwa")
        for metric, value in (means | {"ece": 0.04}).items()
    ]  # fmt: skip
    pairs = [
        place | {"metric": metric, "digital": digital, "hwa": hwa, "p_value": 0.016}
        | {"n_patients": 7, "level": 0.95} | _spread("difference", hwa - digital, 0.001)
        for metric, digital, hwa in (("mean_variance", 0.016, 0.006), ("ece", 0.018, 0.04))
    ]  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame(pairs)
