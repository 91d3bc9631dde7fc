import numpy as np
import pandas as pd
import pytest

from analogmed.evaluation.robustness import COLUMNS, over_time, summarise

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
def _computed():
    results = simulated_results()
    return summarise(results, n_boot=100), over_time(results, n_boot=100)


@pytest.fixture
def summary(_computed):
    return _computed[0].copy()


@pytest.fixture
def curves(_computed):
    return _computed[1].copy()
