"""Training of the shipped checkpoints: three small networks on the brain phantom, two trainings.

    python experiments/train_checkpoints.py

Each network is first trained digitally. From this start, one digital and one hardware-aware
training follow with the same number of epochs. Takes about twenty minutes on two cores; writes
analogmed/checkpoints/phantom_brain/.
"""

import shutil
from pathlib import Path

from _programs import in_parallel, run_program

MODELS = {
    "unet": "{features: 8}",
    "unetpp": "{features: [8, 8, 16, 32, 64, 8]}",
    "swin_unetr": "{feature_size: 12}",
}
EPOCHS = ["--epochs=50", "--validate_every=10"]
RUNS = Path("runs/checkpoints")
SHIPPED = Path(__file__).parents[1] / "analogmed" / "checkpoints" / "phantom_brain"


def main() -> None:
    in_parallel(train_one, MODELS, workers=2)


def train_one(model: str) -> None:
    """Train the digital start, and from it the two shipped networks."""
    start = RUNS / model / "start"
    run_program(
        "train", [f"--model={model}", f"--model.options={MODELS[model]}", *EPOCHS, f"--out={start}"]
    )
    for training in ("digital", "hwa"):
        out = RUNS / model / training
        run_program("train", [f"--training={training}", f"--init={start}", *EPOCHS, f"--out={out}"])
        shutil.copy(out / "network.safetensors", SHIPPED / f"{model}-{training}.safetensors")


if __name__ == "__main__":
    main()
