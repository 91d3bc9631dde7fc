"""From a MedMNIST file to a page: training, chips over time, scores and report."""

import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from analogmed.cli.main import main
from analogmed.training import load_checkpoint

DAY_S = 86_400.0
LENGTHS = {"train": 40, "val": 16, "test": 24}
NETWORK = ["--model.options.features=[4,4,8]", "--model.options.hidden=8"]


def write_file(path, n_columns, highest):
    """Write images with a bright square whose place depends on the label."""
    generator = np.random.default_rng(0)
    content = {}
    for part, n in LENGTHS.items():
        images = generator.integers(120, size=(n, 24, 24), dtype=np.uint8)
        labels = np.arange(n)[:, None] // np.arange(1, n_columns + 1) % (highest + 1)
        for image, row in zip(images, labels, strict=True):
            for column, value in enumerate(row):
                image[8 * column : 8 * column + 8, 8 * value : 8 * value + 8] += 80
        content |= {f"{part}_images": images, f"{part}_labels": labels.astype(np.uint8)}
    np.savez_compressed(path, **content)


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Task options and the run folder of an evaluation of two trainings, by kind of labels."""

    @cache
    def of(kind):
        folder = tmp_path_factory.mktemp(kind)
        write_file(
            folder / "data.npz",
            n_columns=2 if kind == "multilabel" else 1,
            highest=2 if kind == "multiclass" else 1,
        )
        task = ["--task", "medmnist", "--task.root", str(folder / "data.npz")]
        main(
            [
                *("train", *task, "--model", "light_classifier", *NETWORK, "--training", "hwa"),
                *("--epochs", "2", "--validate_every", "1", "--out", str(folder / "hwa")),
            ]
        )
        networks = ["--checkpoints", str(folder / "hwa" / "digital"), str(folder / "hwa")]
        main(
            [
                *("eval", *task, *networks, "--sweep.chips", "2", "--sweep.times_s", "0", "1 day"),
                *("--metrics", "auroc", "accuracy", "--out", str(folder / "eval")),
            ]
        )
        return task, folder

    return of


@pytest.fixture(params=["binary", "multiclass", "multilabel"])
def run(request, run_of):
    return run_of(request.param)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the temperature ran")
class TestRun:
    def test_the_thresholds_of_a_checkpoint_decide(self, run):
        _, folder = run
        info = load_checkpoint(folder / "hwa").info
        assert len(info.thresholds) == {"binary": 1, "multilabel": 2}.get(folder.name[:-1], 0)
        table = pd.read_parquet(folder / "eval" / "results.parquet")
        rows = table[(table["hardware"] == "digital") & (table["training"] == "hwa")]
        accuracy = rows[rows["metric"] == "accuracy"].groupby("class")["value"].mean()
        network = load_checkpoint(folder / "hwa").network.eval()
        with np.load(folder / "data.npz") as data:
            images, labels = data["test_images"], data["test_labels"]
        images = np.pad(
            images / np.float32(127.5) - 1, [(0, 0), (4, 4), (4, 4)], constant_values=-1
        )
        with torch.no_grad():
            logits = network(torch.from_numpy(images[:, None]).float()).double()
        if info.thresholds:
            decided = logits.sigmoid().numpy() > np.array(info.thresholds)
            expected = (decided == labels).mean(axis=0)
        else:
            expected = [(logits.argmax(1).numpy() == labels[:, 0]).mean()]
        assert accuracy.to_numpy() == pytest.approx(expected)

    def test_digital_scores_are_those_of_scikit_learn(self, run):
        _, folder = run
        table = pd.read_parquet(folder / "eval" / "results.parquet")
        rows = table[(table["hardware"] == "digital") & (table["training"] == "digital")]
        found = rows[rows["metric"] == "auroc"].groupby("class")["value"].mean()
        network = load_checkpoint(folder / "hwa" / "digital").network.eval()
        with np.load(folder / "data.npz") as data:
            images, labels = data["test_images"], data["test_labels"]
        images = np.pad(
            images / np.float32(127.5) - 1, [(0, 0), (4, 4), (4, 4)], constant_values=-1
        )
        with torch.no_grad():
            logits = network(torch.from_numpy(images[:, None]).float()).double()
        many = logits.shape[1] > labels.shape[1]
        probability = logits.softmax(1) if many else logits
        positive = labels == np.arange(logits.shape[1]) if many else labels
        expected = [
            roc_auc_score(positive[:, index], probability[:, index])
            for index in range(logits.shape[1])
        ]
        assert found.to_numpy() == pytest.approx(expected, abs=1e-6)

    def test_a_summary_has_the_scores_over_time(self, run):
        _, folder = run
        summary = pd.read_csv(folder / "eval" / "summary.csv")
        assert set(summary["training"]) == {"digital", "hwa"}
        names = ["auroc_digital", "auroc_t0", "auroc_1d", "auroc_1d_low", "accuracy_1d"]
        assert np.isfinite(summary[names].to_numpy()).all()
        assert summary["missed"].isna().all()

    def test_a_page_is_about_scores_of_images(self, run):
        _, folder = run
        main(["report", str(folder / "eval"), "--out", str(folder / "page")])
        (page,) = (folder / "page").glob("*.html")
        text = re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL)
        assert "AUROC" in text
        assert ("AUROC of each class" in text) == (not folder.name.startswith("binary"))
        assert "Dice" not in text
        assert "Missed" not in text

    def test_what_needs_masks_is_refused(self, run_of, capsys):
        task, folder = run_of("multilabel")
        network = ["--checkpoints", str(folder / "hwa"), "--out", str(folder / "other")]
        assert main(["eval", *task, *network, "--metrics", "dice"]) == 2
        assert "dice is not defined for classes of" in capsys.readouterr().err

    def test_the_uncertainty_is_that_of_each_image_and_class(self, run, tmp_path):
        task, folder = run
        networks = ["--checkpoints", str(folder / "hwa")]
        if folder.name.startswith("multilabel"):  # trainings are compared
            networks.insert(1, str(folder / "hwa" / "digital"))
        sweep = ["--sweep.chips", "2", "--sweep.times_s", "0", "--sweep.reads", "2"]
        passes = ["--sources", "deterministic", "chips", "--alpha", "0.3"]
        out = tmp_path / "sure"
        assert main(["uncertainty", *task, *networks, *sweep, *passes, "--out", str(out)]) == 0
        summary = pd.read_csv(out / "summary.csv")
        chips = summary[(summary["source"] == "chips") & (summary["training"] == "hwa")]
        of_all = chips[chips["region"] == "image"].set_index("metric")["estimate"]
        parts = of_all["mean_expected_entropy"] + of_all["mean_mutual_information"]
        assert of_all["mean_entropy"] == pytest.approx(parts, rel=1e-3)
        assert {"auroc", "brier", "nll", "ece_pooled", "auroc_entropy"} <= set(of_all.index)
        assert not {"ece", "dice", "dice_correlation"} & set(summary["metric"])
        classes = set(chips["region"]) - {"image"}
        of_classes = chips[chips["region"].isin(classes) & (chips["metric"] == "auroc")]
        assert of_all["auroc"] == pytest.approx(of_classes["estimate"].mean())
        conformal = pd.read_csv(out / "conformal.csv")
        assert set(conformal["class"]) == classes
        address = ["calibrated", "training", "time_s", "chip", "class"]
        patients = conformal.groupby(address, dropna=False)["patient"].nunique()
        assert set(patients) == {LENGTHS["test"]}
        assert conformal["volume_ratio"].isna().all()
        page = self.page_of(out, tmp_path / "page")
        assert "Conformal label sets" in page
        assert "of all images" in page

    def test_the_gain_of_a_mitigation_is_that_of_the_primary_metric(self, run, tmp_path):
        task, folder = run
        options = ["--options", "temperature", "input_ranges", "--images", "8"]
        sweep = ["--sweep.chips", "2", "--sweep.times_s", "1 day"]
        network, out = ["--checkpoints", str(folder / "hwa")], tmp_path / "mitigated"
        command = ["uncertainty", "mitigation", *task, *network, *sweep, *options]
        assert main([*command, "--out", str(out)]) == 0
        table = pd.read_csv(out / "mitigation.csv")
        assert set(table["metric"]) == {"auroc", "brier", "nll"}
        means = table[table["metric"] == "auroc"].groupby("option")["value"].mean()
        summary = pd.read_csv(out / "summary.csv").set_index(["option", "metric"])
        gain = means["drift_compensation"] - means["none"]
        assert summary.loc[("drift_compensation", "auroc"), "gain"] == pytest.approx(gain)
        if not folder.name.startswith("multiclass"):  # one temperature of both keeps each order
            assert means["temperature"] == pytest.approx(means["drift_compensation"])
        assert "AUROC gain" in self.page_of(out, tmp_path / "page")

    def page_of(self, folder, out):
        """Return the text of the page of a run, which is not about masks."""
        assert main(["report", str(folder), "--out", str(out)]) == 0
        (page,) = out.glob("*.html")
        text = re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL)
        for word in ("Dice", "voxel", "structure", "in the band"):
            assert word not in text
        return text

    def test_the_sensitivity_is_that_of_the_primary_metric(self, run_of, tmp_path):
        task, folder = run_of("multiclass")
        network = ["--checkpoints", str(folder / "hwa"), "--layers", "head", "--parts", "layers"]
        sweep = ["--sweep.chips", "2", "--sweep.times_s", "0"]
        main(["sensitivity", *task, *network, *sweep, "--out", str(tmp_path / "layers")])
        table = pd.read_parquet(tmp_path / "layers" / "results.parquet")
        assert set(table["metric"]) == {"auroc"}
        means = table.groupby("setting")["value"].mean()
        ranking = pd.read_csv(tmp_path / "layers" / "ranking.csv").set_index("setting")
        expected = means["digital"] - means["only_analog"]
        assert ranking.loc["only_analog", "drop"] == pytest.approx(expected)
        page = self.page_of(tmp_path / "layers", tmp_path / "page")
        assert "AUROC drop by layer" in page
