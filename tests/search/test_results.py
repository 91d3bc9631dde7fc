"""Tables of a search whose goal names other metrics than Dice."""

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState, create_trial

from analogmed.foundation.errors import DataError
from analogmed.models import Genotype, Level
from analogmed.report import write_report
from analogmed.report.figures.search import pareto_front
from analogmed.report.tables.search import render_front
from analogmed.search.objectives import METRICS, Goal
from analogmed.search.results import candidates_of, front_of, write_results
from analogmed.search.space.space import Space
from analogmed.search.strategy import METRICS_ATTRIBUTE, distributions
from analogmed.tables.search import measured_metric

SPACE = Space(depths=(1,), blocks=("A",), widths=(2, 4, 8), growths=(1,), kernels=(3,))
HD95 = {2: 4.0, 4: 3.0, 8: 3.5}
"""HD95 after a day, by the number of channels."""


def study_of(goal):
    """A study of three networks, as a search stores it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=goal.directions)
    for channels, hd95 in HD95.items():
        metrics = {"dice_1d": 0.5, "hd95_1d": hd95, "hd95_digital": 1.0, "tiles": channels / 2}
        metrics |= dict.fromkeys(("hd95_1mo", "parameters", "latency_ms"), 1.0)
        trial = create_trial(
            params=SPACE.encode(Genotype((Level("A", channels, 3),))),
            distributions=distributions(SPACE),
            values=goal.values(metrics),
            state=TrialState.COMPLETE,
            user_attrs={METRICS_ATTRIBUTE: metrics},
        )
        study.add_trial(trial)
    return study


def test_a_goal_of_another_metric_has_its_columns_its_front_and_its_figures(tmp_path):
    goal = Goal(("hd95_1d", "tiles"))
    candidates = candidates_of(study_of(goal), SPACE, goal)
    assert {*METRICS, "hd95_1d", "hd95_digital", "hd95_avm_drop"} <= {*candidates}
    assert candidates["hd95_avm_drop"].isna().all()
    front = front_of(candidates, goal)
    assert front["hd95_1d"].tolist() == [3.0, 4.0]  # 3.5 has more tiles than 3.0, and is worse
    write_results(tmp_path, candidates, goal)
    written = pd.read_csv(tmp_path / "front.csv")
    assert written["hd95_1d"].tolist() == [3.0, 4.0]
    assert (tmp_path / "figures" / "pareto.png").is_file()
    (tmp_path / "search.yaml").write_text("objectives: [hd95_1d, tiles]\n")
    page, markdown, _ = (path.read_text(encoding="utf-8") for path in write_report([tmp_path]))
    assert (
        "The best of 3 evaluated networks is trial 1: HD95 after 1 day on the chip 3, tiles 2."
    ) in page
    assert "2 of them are on the Pareto front." in page
    assert "| 1 | 2d:A4 | 3 | 2 |" in markdown
    assert "analogmed search run --config search.yaml" in page
    heads = render_front(written, goal.objectives).splitlines()[2].split()
    assert heads[2:6] == ["hd95_1d", "tiles", "hd95_1mo", "hd95_digital"]


def test_a_page_of_a_search_needs_an_evaluated_network_and_its_objectives(tmp_path):
    goal = Goal(("dice_1d", "tiles"))
    study = optuna.create_study(directions=goal.directions)
    write_results(tmp_path, candidates_of(study, SPACE, goal), goal)
    assert "No network is evaluated yet." in write_report([tmp_path])[0].read_text()
    write_results(tmp_path, candidates_of(study_of(goal), SPACE, goal), goal)
    (tmp_path / "search.yaml").write_text("objectives: [nsd_1d]\n")
    with pytest.raises(DataError, match=r"search.yaml, entry 'objectives': expected columns of"):
        write_report([tmp_path])


def test_a_goal_of_dice_has_the_same_columns_as_ever():
    goal = Goal(("dice_1d", "avm_drop"))
    table = candidates_of(optuna.create_study(directions=goal.directions), SPACE, goal)
    assert [name for name in table if name in METRICS] == list(METRICS)
    assert not [name for name in table if name.startswith("hd95") or name == "dice_avm_drop"]
    assert not [name for name in table if name.startswith("auroc")]
    named = Goal(("dice_avm_drop",))
    study = optuna.create_study(directions=named.directions)
    assert "dice_avm_drop" in candidates_of(study, SPACE, named)


def test_a_search_of_another_task_has_the_columns_of_its_primary_metric_alone(tmp_path):
    goal = Goal(("auroc_1d", "latency_ms"))
    metrics = {"auroc_1d": 0.7, "auroc_digital": 0.8, "auroc_1mo": 0.6, "avm_drop": 0.1}
    metrics |= {"tiles": 2.0, "parameters": 4.0, "latency_ms": 3.0}
    study = optuna.create_study(directions=goal.directions)
    study.add_trial(
        create_trial(
            params=SPACE.encode(Genotype((Level("A", 4, 3),))),
            distributions=distributions(SPACE),
            values=goal.values(metrics),
            state=TrialState.COMPLETE,
            user_attrs={METRICS_ATTRIBUTE: metrics},
        )
    )
    candidates = candidates_of(study, SPACE, goal, primary="auroc")
    expected = [name.replace("dice", "auroc") for name in METRICS]
    assert list(candidates)[4 : 4 + len(METRICS)] == expected
    assert not [name for name in candidates if name.startswith("dice")]
    write_results(tmp_path, candidates, goal)
    (tmp_path / "search.yaml").write_text("objectives: [auroc_1d, latency_ms]\n")
    page = write_report([tmp_path])[0].read_text(encoding="utf-8")
    assert "AUROC after 1 day on the chip 0.7, latency of one input (ms) 3." in page
    assert "slice" not in page.split("<body>")[1].split("<script>")[0]
    pareto_front(candidates, tmp_path / "tiles.png", objectives=["tiles"])  # against its AUROC


def test_a_search_of_old_names_its_measured_metric():
    table = pd.DataFrame({"dice_digital": [float("nan")], "auroc_digital": [0.5]})
    assert measured_metric(table) == "auroc"
    assert measured_metric(table.assign(auroc_digital=float("nan"))) == "dice"
