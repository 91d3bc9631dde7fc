"""Comparison of recipes for hardware-aware training: one network, evaluated on the same chips.

    python experiments/recipes.py                        # U-Net on the brain phantom
    python experiments/recipes.py --real lgg=data/lgg    # and on a real data set

A U-Net is trained digitally, and from there with each recipe for the same number of epochs. The
phantom seed and the split differ from those of figure1.py, so that the recipe is not selected on
the patients that the results are reported on. All commands are printed; finished steps are not
repeated. Takes half an hour of one core per task.
"""

import argparse
from pathlib import Path

import pandas as pd
from _programs import (
    case_values,
    evaluate_networks,
    in_parallel,
    markdown,
    run_program,
    with_interval,
)

from analogmed.evaluation.statistics import difference, two_way_bootstrap
from analogmed.foundation.files import write_text_atomically
from analogmed.metrics.properties import difference_bounds

DAY_S, MONTH_S = 86_400, 2_592_000
MODIFIER = ["--noise.weights=modifier"]
RECIPES = {
    "default": [],
    "digital, compute-matched": ["--training=digital"],
    "public settings": [
        *(*MODIFIER, "--noise.ranges=learned", "--optimizer.learning_rate=5e-4"),
        *("--optimizer.ema=0", "--loading.augment=false"),
        *("--keep=best"),
    ],
    "additive noise 0.06": MODIFIER,
    "additive noise 0.03": [*MODIFIER, "--hardware.modifier_std=0.03"],
    "polynomial PCM noise": [*MODIFIER, "--hardware.modifier=poly", "--hardware.modifier_std=1"],
    "drop-connect 0.05": [*MODIFIER, "--hardware.drop_connect=0.05"],
    "a chip for each step": ["--noise.every=1"],
    "chips of all ages": ["--noise.ages_s=[0, 2592000]"],
    "ramp over 30 %": ["--noise.ramp=0.3"],
    "learning rate 5e-4": ["--optimizer.learning_rate=5e-4"],
    "no averaged weights": ["--optimizer.ema=0"],
    "no augmentation": ["--loading.augment=false"],
    "no clipping": ["--hardware.clip=none"],
    "learned input ranges": ["--noise.ranges=learned"],
    "learned output scales": ["--hardware.learned_out_scale=column"],
    "late norms": ["--noise.norms=late", "--noise.ages_s=[0, 2592000]"],
    "frozen norms": ["--noise.norms=frozen"],
    "distillation 0.5": ["--loss.distillation=0.5"],
}
TASKS = {
    "phantom_brain": [
        "--task.options={phantom_patients: 60, phantom_seed: 1}",
        "--task.shares=[0.25, 0.1, 0.65]",
        "--epochs=60",
    ],
    "lgg": ["--task.size=[96, 96]", "--task.shares=[0.5, 0.1, 0.4]", "--epochs=70"],
    "dsb2018": [
        "--task.options={window: [64, 64]}",
        "--epochs=60",
        "--loading.patches_per_image=2",
    ],
}
SPLIT_SEED = 1


def main() -> None:
    arguments = _arguments()
    roots = dict(pair.split("=", 1) for pair in arguments.real)
    for name in ["phantom_brain", *roots] if not arguments.only_real else roots:
        folder = arguments.out / name
        root = [f"--task.root={roots[name]}"] if name in roots else []
        train_all(name, root, folder, arguments)
        rows = [_row(recipe, folder) for recipe in arguments.recipes]
        table = pd.DataFrame(rows).sort_values("1 day", ascending=False)
        write_text_atomically(folder / "recipes.md", markdown(table))
        print(f"{name}\n{markdown(table)}")


def train_all(name: str, root: list[str], folder: Path, arguments: argparse.Namespace) -> None:
    """Train the digital network and, from it, one network per recipe; evaluate them on chips."""
    training = [f"--task={name}", *root, f"--task.split_seed={SPLIT_SEED}", *TASKS[name]]
    data = [setting for setting in training if setting.startswith("--task")]
    start = folder / "start"
    features = "--model.options={features: 8}"
    run_program("train", [*training, features, f"--out={start}"])

    def run(recipe: str) -> None:
        out = _folder(folder, recipe)
        settings = ["--training=hwa", *RECIPES[recipe], f"--init={start}"]
        run_program("train", [*training, *settings, f"--out={out / 'network'}"])
        hardware = [s for s in RECIPES[recipe] if s.startswith("--hardware")]
        sweep = {"chips": arguments.chips, "times_s": (0, DAY_S, MONTH_S)}
        evaluate_networks(data, [out / "network"], out / "eval", **sweep, further=hardware)

    in_parallel(run, arguments.recipes, arguments.workers)


def _row(recipe: str, folder: Path) -> dict[str, object]:
    own, control = (
        case_values(pd.read_parquet(_folder(folder, name) / "eval" / "results.parquet"))
        for name in (recipe, CONTROL)
    )
    day, reference = own[DAY_S], control[DAY_S].reindex(own[DAY_S].index)
    interval = two_way_bootstrap(
        day.to_numpy(float),
        reference.to_numpy(float),
        patients=day.index.get_level_values("patient"),
        statistic=difference,
        bounds=difference_bounds("dice"),
    )
    return {
        "recipe": recipe,
        "digital": round(float(own["digital"].to_numpy().mean()), 3),
        "t0": round(float(own[0.0].to_numpy().mean()), 3),
        "1 day": round(float(day.to_numpy().mean()), 3),
        "1 month": round(float(own[MONTH_S].to_numpy().mean()), 3),
        f"1 day minus '{CONTROL}'": with_interval(
            interval.estimate, interval.low, interval.high, "+.3f"
        ),
    }


CONTROL = "digital, compute-matched"


def _folder(folder: Path, recipe: str) -> Path:
    return folder / recipe.replace(",", "").replace("%", "percent").replace(" ", "-")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", nargs="*", default=[], metavar="TASK=ROOT")
    parser.add_argument("--only_real", action="store_true", help="leave the phantom out")
    parser.add_argument("--recipes", nargs="*", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
