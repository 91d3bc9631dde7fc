"""Mistakes of a first user: each ends in one sentence that names the problem and the remedy."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
from monai.data import DataLoader as MonaiLoader
from monai.data import Dataset as MonaiDataset
from monai.inferers import SlidingWindowInferer
from monai.metrics import DiceMetric
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import analogmed as am
from analogmed.foundation.errors import AnalogmedError


class Wrapped(nn.Module):
    """A network whose output is put into another form."""

    def __init__(self, network, form):
        super().__init__()
        self.network, self.form = network, form

    def forward(self, images):
        return self.form(self.network(images))


@pytest.fixture(scope="module")
def kit(analog, network, images, labels):
    """Objects of the user, and short forms of the calls."""

    def robustness(loader=None, of=analog, **options):
        loader = [(images, labels)] if loader is None else loader
        return am.robustness(of, loader, **({"times": ["t0"], "chips": 2} | options))

    def on_tiles(form, of=network, loader=(images,)):
        return am.calibrate(am.convert(Wrapped(copy.deepcopy(of), form)), loader)

    return SimpleNamespace(
        analog=analog,
        network=network,
        x=images,
        y=labels,
        dataset=TensorDataset(images, labels),
        robustness=robustness,
        on_tiles=on_tiles,
        two=nn.Conv2d(1, 2, 1),
    )


def two_logits(kit, labels, **options):
    analog = am.calibrate(am.convert(kit.two), [kit.x])
    return kit.robustness([(kit.x, labels)], analog, **options)


LOADERS = {
    "one label for each image": (
        lambda k: two_logits(k, torch.ones(len(k.x), dtype=torch.long)),
        "labels of shape (1, 1) do not fit logits of shape (1, 2, 16, 16); expected class indices",
    ),
    "labels of several classes at a position": (
        lambda k: two_logits(k, torch.ones(len(k.x), 2, *k.x.shape[2:])),
        "labels with 2 channels overlap.*background first",
    ),
    "a dataset": (
        lambda k: k.robustness(k.dataset),
        "got a dataset (TensorDataset).*DataLoader(dataset, batch_size=4)",
    ),
    "a dataset to calibrate": (
        lambda k: am.calibrate(am.convert(k.network), k.dataset),
        "got a dataset (TensorDataset).*DataLoader(dataset, batch_size=4)",
    ),
    "a dataset of MONAI": (
        lambda k: k.robustness(MonaiDataset([{"image": k.x[0], "label": k.y[0]}])),
        "got a dataset (Dataset)",
    ),
    "images without a batch axis": (
        lambda k: k.robustness([(k.x[0], k.y[0])]),
        "lacks the batch or the channel axis.*images[None].*1 spatial axes, use a network with 1.",
    ),
    "images without a channel axis": (
        lambda k: k.robustness([(k.x[:, 0], k.y)]),
        "lacks the batch or the channel axis.*images[:, None]",
    ),
    "one tensor": (lambda k: am.calibrate(am.convert(k.network), k.x), "got one Tensor.*[images]"),
    "arguments in the other order": (
        lambda k: am.robustness([(k.x, k.y)], k.analog),
        "expected a torch network (nn.Module) as the first argument, got list",
    ),
    "no loader": (lambda k: k.robustness(k.network), "iterable of batches.*got Sequential"),
    "an exhausted loader": (lambda k: k.robustness(iter(())), "yielded no batch"),
    "images alone": (lambda k: k.robustness([k.x]), "images with labels"),
    "labels alone, to calibrate": (
        lambda k: am.calibrate(am.convert(k.network), [k.y]),
        "floating-point numbers, got torch.uint8.*give the images first",
    ),
    "a dictionary of labels alone": (
        lambda k: am.calibrate(am.convert(k.network), [{"label": k.y}]),
        "no entry 'image', but 'label'",
    ),
    "other keys": (
        lambda k: k.robustness(MonaiLoader(MonaiDataset([{"img": k.x[0], "seg": k.y[0]}]))),
        "no entry 'image', but 'img', 'seg'.*keys=",
    ),
    "one key": (lambda k: k.robustness(keys="image"), "keys: expected two names.*got 'image'"),
    "images of bytes": (lambda k: k.robustness([((k.x * 255).byte(), k.y)]), "floating-point"),
    "an array of objects": (
        lambda k: k.robustness([(np.array([None]), k.y)]),
        "as a tensor.*got an array of object",
    ),
    "other channels": (
        lambda k: k.robustness([(k.x.repeat(1, 3, 1, 1), k.y)]),
        "loader: the network does not take images of shape (2, 3, 16, 16).*1 channels",
    ),
    "other channels to calibrate": (
        lambda k: am.calibrate(am.convert(k.network), [k.x.repeat(1, 3, 1, 1)]),
        "1 channels",
    ),
}
LABELS = {
    "values between classes": (
        lambda k: k.robustness([(k.x, k.y * 0.9 + 0.05)]),
        "values 0.05, 0.95; expected 0 and one other",
    ),
    "0 and 255 for two logits": (
        lambda k: two_logits(k, k.y * 255),
        "values 0, 255; expected class indices from 0 to 1.*Divide them by 255",
    ),
    "more classes than logits": (
        lambda k: two_logits(k, k.y.long() * 2 + k.y.long().roll(1, 0)),
        "expected class indices from 0 to 1, one for each of the 2 logits",
    ),
    "background alone": (
        lambda k: k.robustness([(k.x, k.y * 0)]),
        "dice is undefined for all 5 images; expected labels with a structure",
    ),
    "another size": (lambda k: k.robustness([(k.x, k.y[..., :8])]), "do not fit logits"),
}
ARGUMENTS = {
    "patients: a text": (
        lambda k: k.robustness(patients="patient"),
        "patients: expected a list.*got the text 'patient'",
    ),
    "patients: too few": (
        lambda k: k.robustness(patients=["a"]),
        "patients: expected one for each of the 5 images.*got 1",
    ),
    "patients of a loader that shuffles": (
        lambda k: k.robustness(DataLoader(k.dataset, shuffle=True), patients=["abcde"] * 5),
        "patients: the loader shuffles.*shuffle=False",
    ),
    "no chips": (lambda k: k.robustness(chips=0), "chips must be 1 or more, got 0"),
    "chips: a text": (
        lambda k: k.robustness(chips="5"),
        "chips: expected a whole number of 1 or more, got '5'",
    ),
    "seed: a fraction": (
        lambda k: k.robustness(seed=0.5),
        "seed: expected a whole number, got 0.5",
    ),
    "metric: misspelt": (lambda k: k.robustness(metric="dcie"), "did you mean 'dice'"),
    "metric: of whole images": (
        lambda k: k.robustness(metric="auroc"),
        "metric: auroc is not defined for segmentation; choose from: dice",
    ),
    "metric: a number": (lambda k: k.robustness(metric=3), "name of a metric, or a function"),
    "metric: a class": (
        lambda k: k.robustness(metric=DiceMetric),
        "got the class DiceMetric. Pass DiceMetric().",
    ),
    "metric: of a mapping": (
        lambda k: k.robustness(metric=lambda p, r: {"dice": 1.0}),
        "expected a number or a tensor of numbers, got dict",
    ),
    "metric: of nothing": (
        lambda k: k.robustness(metric=lambda p, r: None),
        "expected a number or a tensor of numbers, got NoneType",
    ),
    "metric: of one argument": (
        lambda k: k.robustness(metric=lambda p: 1.0),
        "metric '<lambda>': it fails on a prediction and a reference.*TypeError",
    ),
    "inferer: a class": (
        lambda k: k.robustness(inferer=SlidingWindowInferer),
        "inferer: expected a function.*Pass an instance",
    ),
    "times: misspelt": (
        lambda k: k.robustness(times=["1 dya"]),
        "unknown unit 'dya'; did you mean 'day'",
    ),
    "times: negative": (lambda k: k.robustness(times=[-1]), "expected 0 s or more"),
    "times: none": (lambda k: k.robustness(times=[]), "at least one time"),
    "times: nothing": (lambda k: k.robustness(times=None), "expected a number in s, or a text"),
    "times of reram": (
        lambda k: k.robustness(
            of=am.calibrate(am.convert(k.network, "reram"), [k.x]), times=["t0", "1 day"]
        ),
        "has no values at t0; expected one of 1 s, 1 day, 2 days",
    ),
}
NETWORKS = {
    "not calibrated": (
        lambda k: k.robustness(of=am.convert(k.network)),
        "input ranges were never set.*analogmed.calibrate",
    ),
    "not converted": (lambda k: k.robustness(of=k.network), "no analog layer.*convert() it first"),
    "a chip of it, not converted": (lambda k: am.Chip(k.network), "convert() it first"),
    "a chip in its place": (lambda k: k.robustness(of=am.Chip(k.analog)), "nn.Module.*got Chip"),
    "a snapshot in its place": (
        lambda k: k.robustness(of=am.Chip(k.analog).at(0)),
        "analog network from convert(), got ChipSnapshot",
    ),
    "converted twice": (lambda k: am.convert(k.analog), "is analog already"),
    "without weights": (
        lambda k: am.convert(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))),
        "no layer that can be put on a tile",
    ),
    "its weights in its place": (
        lambda k: am.convert(k.network.state_dict()),
        "expected a torch network (nn.Module).*got OrderedDict",
    ),
    "its class in its place": (lambda k: am.convert(nn.Sequential), "got the class Sequential"),
    "in half precision": (
        lambda k: k.robustness(of=am.calibrate(am.convert(copy.deepcopy(k.network).half()), [k.x])),
        "torch.float16; expected float32.*network.float()",
    ),
    "returns a tuple": (
        lambda k: k.robustness(of=k.on_tiles(lambda logits: (logits, logits))),
        "one tensor of logits.*got|returns a tuple",
    ),
    "returns a list": (
        lambda k: k.robustness(of=k.on_tiles(lambda logits: [logits])),
        "one tensor of logits",
    ),
    "returns a dictionary": (
        lambda k: k.robustness(of=k.on_tiles(lambda logits: {"out": logits})),
        "keys 'out'.*one tensor of logits",
    ),
    "ends in a sigmoid": (
        lambda k: k.robustness(of=k.on_tiles(torch.sigmoid)),
        "returns probabilities.*Remove its final sigmoid",
    ),
    "ends in a softmax": (
        lambda k: k.robustness(
            [(k.x, k.y)], of=k.on_tiles(lambda logits: logits.softmax(1), of=k.two)
        ),
        "returns probabilities.*Remove its final softmax",
    ),
    "ends in a sigmoid, in windows": (
        lambda k: k.robustness(
            of=k.on_tiles(torch.sigmoid), inferer=SlidingWindowInferer((16, 16))
        ),
        "returns probabilities",
    ),
}
CALLS = {
    "a batch of a loader": (
        lambda k: am.Chip(k.analog).at(0)((k.x, k.y)),
        "images: expected a tensor.*got tuple. Pass the images alone",
    ),
    "an array": (lambda k: am.Chip(k.analog).at(0)(k.x.numpy()), "got ndarray"),
    "bytes": (lambda k: am.Chip(k.analog).at(0)((k.x * 255).byte()), "got torch.uint8"),
    "double precision": (
        lambda k: am.Chip(k.analog).at(0)(k.x.double()),
        "expected torch.float32, the type of the weights, got torch.float64",
    ),
    "images that are NaN": (
        lambda k: k.robustness([(k.x * float("nan"), k.y)]),
        "the images hold 1280 NaN or Inf values",
    ),
    "an empty batch": (lambda k: k.robustness([(k.x[:0], k.y[:0])]), "batch of images is empty"),
    "a quantile in per cent": (
        lambda k: am.calibrate(k.analog, [k.x], quantile=99.95),
        "quantile: expected a finite number above 0 and at most 1, got 99.95",
    ),
    "a quantile as text": (lambda k: am.calibrate(k.analog, [k.x], quantile="high"), "quantile"),
    "a layer that it has not": (
        lambda k: am.convert(k.network, digital_layers="head"),
        "no layer of the model is called 'head'",
    ),
    "a keyword of another function": (
        lambda k: am.calibrate(k.analog, [k.x], device="cpu"),
        "calibrate: unknown argument 'device'. It accepts model, batches, quantile, fit_outputs",
    ),
    "a misspelt keyword": (
        lambda k: am.robustness(k.analog, [(k.x, k.y)], chip=2),
        "robustness: unknown argument 'chip'; did you mean 'chips'? It accepts",
    ),
    "the keyword of other functions for the chip": (
        lambda k: am.convert(k.network, hardware="pcm"),
        "convert: unknown argument 'hardware'. It accepts model, rpu_config",
    ),
    "a setting of another name": (
        lambda k: am.TrainConfig(lr=0.1),
        "TrainConfig: unknown argument 'lr'. It accepts task, model",
    ),
    "a flag where a name is needed": (
        lambda k: am.TrainConfig(training=True),
        "training: expected 'digital' or 'hwa', got True",
    ),
    "a name that is none": (
        lambda k: am.TrainConfig(noise={"weights": "chip"}),
        "weights: expected 'modifier' or 'chips', got 'chip'",
    ),
    "a flag where a number is needed": (
        lambda k: am.TrainConfig(task={"spatial_dims": True}),
        "spatial_dims: expected 1 or 2 or 3 or None, got True",
    ),
    "digital layers by their number": (
        lambda k: am.convert(k.network, digital_layers=[2]),
        "digital_layers: expected names or patterns of layers, such as.*got [2]",
    ),
    "digital layers as a flag": (
        lambda k: am.convert(k.network, digital_layers=True),
        "digital_layers: expected names or patterns of layers, such as.*got True",
    ),
    "digital layers of a tile map by their number": (
        lambda k: am.map_tiles(k.network, (1, 1, 16, 16), digital_layers=[2]),
        "digital_layers: expected names or patterns of layers",
    ),
    "a network as a checkpoint": (
        lambda k: am.Experiment(checkpoints=k.network),
        "checkpoints: expected a path, or its text, got Sequential",
    ),
    "the name of a task in place of the task": (
        lambda k: am.save_checkpoint("x", k.network, task="lgg", factory="a:b", patients=[]),
        "task: expected a Task, got 'lgg'. Pass load_task(...).",
    ),
    "a network by a synonym": (
        lambda k: am.build_model("nnU-Net", in_channels=1, out_channels=1),
        "unknown model 'nnU-Net'; did you mean 'dynunet'",
    ),
    "a network by a number": (
        lambda k: am.build_model(3, in_channels=1, out_channels=1),
        "name: expected the name of a network, got int",
    ),
    "images as the shape of an input": (
        lambda k: am.map_tiles(k.network, torch.zeros(1, 1, 16, 16)),
        "input_shape: expected whole numbers.*got Tensor. Give images.shape",
    ),
    "a number as a list": (
        lambda k: am.Experiment(metrics=3),
        "metrics: expected a list, got int",
    ),
    "a checkpoint by a number": (
        lambda k: am.load_checkpoint(3),
        "path: expected a path, or its text, got int",
    ),
    "a figure without a file": (
        lambda k: k.robustness().plot(),
        "plot: missing a required argument: 'path'",
    ),
    "a chip at no time": (
        lambda k: am.Chip(k.analog).at(),
        "at: missing a required argument: 't_inference_s'",
    ),
    "a task in place of an experiment": (
        lambda k: am.evaluate("phantom_brain"),
        "evaluate: expected Experiment(...) or keywords, got str",
    ),
}
HARDWARE = {
    "misspelt preset": (lambda k: am.convert(k.network, "pmc"), "did you mean 'pcm'"),
    "misspelt preset of a training": (
        lambda k: am.TrainConfig(hardware="reramm"),
        "did you mean 'reram'",
    ),
    "misspelt argument": (
        lambda k: am.convert(k.network, {"preset": "pcm", "tilesize": 64}),
        "unknown hardware argument 'tilesize'; did you mean 'tile_size'",
    ),
    "a class": (
        lambda k: am.convert(k.network, TorchInferenceRPUConfig),
        "got the class TorchInferenceRPUConfig. Pass an instance",
    ),
    "a configuration of the compiled tile": (
        lambda k: am.convert(k.network, InferenceRPUConfig()),
        "name of a preset such as 'pcm'.*got InferenceRPUConfig",
    ),
    "a preset in capitals": (lambda k: am.convert(k.network, "PMC"), "did you mean 'pcm'"),
    "a mapping as a preset": (
        lambda k: am.create_rpu_config({"preset": "pcm"}),
        "hardware.preset: expected the name of a preset, got dict",
    ),
    "a number": (lambda k: am.Experiment(hardware=256), "name of a preset.*got int"),
    "a configuration of its own in a settings file": (
        lambda k: am.Experiment(hardware=TorchInferenceRPUConfig()),
        "no settings file can describe it.*arguments of create_rpu_config()",
    ),
}
MISTAKES = {
    f"{group}: {name}": mistake
    for group, mistakes in {
        "loader": LOADERS,
        "labels": LABELS,
        "argument": ARGUMENTS,
        "network": NETWORKS,
        "call": CALLS,
        "hardware": HARDWARE,
    }.items()
    for name, mistake in mistakes.items()
}


def pattern(words):
    """Return an expression in which ``.*`` and ``|`` alone have a meaning."""
    for character in "()[]?":
        words = words.replace(character, f"\\{character}")
    return f"(?s){words}"


@pytest.mark.parametrize(("call", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_ends_in_a_sentence(kit, call, words):
    with pytest.raises(AnalogmedError, match=pattern(words)) as caught:
        call(kit)
    assert len(str(caught.value)) < 500


WORKS = {
    "arrays": lambda k: k.robustness([(k.x.numpy(), k.y.numpy())]),
    "arrays in reverse": lambda k: k.robustness([(k.x.numpy()[::-1], k.y.numpy()[::-1])]),
    "images in double precision": lambda k: k.robustness([(k.x.double(), k.y)]),
    "images in half precision": lambda k: k.robustness([(k.x.half(), k.y)]),
    "labels of 0 and 255": lambda k: k.robustness([(k.x, k.y * 255)]),
    "labels of 16 bits": lambda k: k.robustness([(k.x, k.y.numpy().astype(np.uint16))]),
    "labels of floating-point numbers": lambda k: k.robustness([(k.x, k.y.float())]),
    "a negative seed": lambda k: k.robustness(seed=-1),
    "times without a space": lambda k: k.robustness(times="30days"),
    "times in capitals": lambda k: k.robustness(times=["T0", "1 Day"]),
    "a loader that shuffles, without patients": lambda k: k.robustness(
        DataLoader(k.dataset, batch_size=5, shuffle=True)
    ),
    "patients as numbers": lambda k: k.robustness(patients=np.array([1, 1, 2, 2, 3])),
    "calibrated in double precision": lambda k: k.robustness(
        of=am.calibrate(am.convert(k.network), [k.x.double().numpy()])
    ),
    "calibrated with the keys of the evaluation": lambda k: k.robustness(
        [{"img": k.x, "seg": k.y}],
        am.calibrate(am.convert(k.network), [{"img": k.x}], keys=("img", "seg")),
        keys=("img", "seg"),
    ),
    "calibrated with batches of a loader": lambda k: k.robustness(
        of=am.calibrate(am.convert(k.network), DataLoader(k.dataset, batch_size=2))
    ),
}


@pytest.mark.parametrize("call", WORKS.values(), ids=WORKS.keys())
def test_what_can_be_meant_in_one_way_only_works(kit, call):
    assert call(kit).table.notna().any().all()


def test_a_network_in_training_mode_gives_the_scores_of_evaluation_mode(kit):
    network = copy.deepcopy(kit.analog).train()
    expected = kit.robustness().values["value"]
    assert list(kit.robustness(of=network).values["value"]) == list(expected)
    assert network.training


def test_plain_numbers_that_may_be_days_are_pointed_out(kit):
    with pytest.warns(UserWarning, match=r"numbers are seconds.*30 s.*write '30 days'"):
        kit.robustness(times=[0, 1, 30])


def test_images_that_are_not_normalised_are_pointed_out(kit):
    raw = (kit.x * 255).round()
    with pytest.warns(UserWarning, match="whole numbers up to 2.* as if not normalised"):
        am.calibrate(am.convert(kit.network), [raw])


def test_a_class_that_no_reference_has_is_noted(kit):
    network = nn.Conv2d(1, 3, 1)
    analog = am.calibrate(am.convert(network), [kit.x])
    run = kit.robustness([(kit.x, kit.y)], analog)
    assert "class 2: in no reference, and so in no mean" in run.notes
