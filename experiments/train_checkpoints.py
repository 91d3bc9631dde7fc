"""Train the shipped checkpoints: three small networks on the brain phantom, each in two ways.

    python experiments/train_checkpoints.py

takes about 25 minutes on two cores and writes analogmed/checkpoints/phantom_brain/.
"""

from pathlib import Path

from analogmed.allocator import keep_freed_memory
from analogmed.config import ModelConfig, TaskConfig, TrainConfig
from analogmed.training import load_checkpoint, train

MODELS = (
    ModelConfig("unet", {"features": 8}),
    ModelConfig("unetpp", {"features": [8, 8, 16, 32, 64, 8]}),
    ModelConfig("swin_unetr", {"feature_size": 12}),
)
FOLDER = Path(__file__).parents[1] / "analogmed" / "checkpoints" / "phantom_brain"


def main() -> None:
    keep_freed_memory()
    for model in MODELS:
        digital = FOLDER / f"{model.name}-digital.safetensors"
        hwa = FOLDER / f"{model.name}-hwa.safetensors"
        train(TrainConfig(task=TaskConfig(), model=model, epochs=80, out=digital))
        train(
            TrainConfig(
                task=TaskConfig(),
                training="hwa",
                init=digital,
                epochs=50,
                learning_rate=5e-4,
                out=hwa,
            )
        )
        for path in (digital, hwa):
            print(
                f"{path.name}: validation Dice {load_checkpoint(path).info.score:.3f}", flush=True
            )


if __name__ == "__main__":
    main()
