from pathlib import Path

import pandas as pd
import programs
import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "experiments" / "table1.py"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table1")
    done = programs.run(SCRIPT, "--out", folder)
    assert done.returncode == 0, done.stderr
    return done.stdout, pd.read_csv(folder / "table1.csv"), (folder / "table1.md").read_text()


def test_the_row_of_the_unet_is_that_of_the_paper(written):
    row = written[1].set_index("network").loc["U-Net"]
    assert row["parameters_m"] == pytest.approx(7.763041)
    assert row["reuse_factor_per_leaf_module"] == pytest.approx(row["paper_reuse_factor"], abs=0.05)
    assert row["utilisation_per_leaf_module"] == pytest.approx(row["paper_utilisation"], abs=1e-4)
    assert row["utilisation_per_layer"] == pytest.approx(0.246, abs=5e-4)
    assert row["utilisation_per_tile"] == pytest.approx(0.414, abs=5e-4)
    assert (row["layers"], row["leaf_modules"], row["tiles"]) == (19, 63, 65)


def test_the_parameters_of_swin_unet_are_those_of_the_paper(written):
    rows = written[1].query("network == 'Swin UNET'")
    assert (rows["parameters_m"] * 1e6 == 62_191_941).all()


def test_the_output_shows_three_conventions_and_says_why_they_differ(written):
    printed, _, markdown = written
    assert printed.strip() == markdown.strip()
    heads = [head.strip() for head in markdown.splitlines()[0].strip("|").split("|")]
    means = ("paper", "per leaf module", "per layer", "per tile")
    assert heads[2:6] == [f"utilisation: {mean}" for mean in means]
    assert heads[6:] == [f"reuse factor: {mean}" for mean in means[:2]]
    assert "divided by 63 leaf modules that is 6574.73" in markdown


def test_no_monai_variant_of_the_table_claims_to_be_the_papers_unetpp(written):
    row = written[1].set_index("network").loc["U-Net++"]
    assert abs(row["parameters_m"] - row["paper_parameters_m"]) > 1
