"""Display names of networks, data sets and metrics in sentences and headings."""

import re

from analogmed.metrics.properties import chance_of
from analogmed.metrics.registry import label_of
from analogmed.tables.estimates import drop_word

_MODELS = {
    "unet": "U-Net",
    "unetpp": "U-Net++",
    "swin_unetr": "Swin-UNETR",
    "attention_unet": "Attention U-Net",
    "dynunet": "DynUNet",
    "densenet121": "DenseNet-121",
    "efficientnet": "EfficientNet",
    "light_classifier": "light classifier",
    "region_of_interest": "region of interest",
    "s4d": "S4D",
    "s4d_ncp": "S4D-NCP",
    "convlstm_cfc": "ConvLSTM-CfC",
    "convlstm_ltc": "ConvLSTM-LTC",
    "spiking_convlstm_cfc": "spiking ConvLSTM-CfC",
}
_TASKS = {
    "phantom_brain": "Brain phantom",
    "phantom_spleen": "Spleen phantom",
    "phantom_nuclei": "Nuclei phantom",
    "phantom_chest": "Chest phantom",
    "phantom_ecg": "ECG phantom",
    "lgg": "LGG",
    "cinc2021": "CinC 2021",
    "cpsc2018": "CPSC 2018",
    "mitbih": "MIT-BIH",
    "dsb2018": "DSB 2018",
    "breastmnist": "BreastMNIST",
    "chestxray14": "ChestX-ray14",
    "pneumoniamnist": "PneumoniaMNIST",
}
_HARDWARE = {
    "pcm": "PCM",
    "reram": "ReRAM",
    "reram_cmo": "CMO ReRAM",
    "hermes": "Hermes",
    "ideal": "ideal",
}
_EVENTS = {"phantom_ecg": "beat", "mitbih": "beat"}
_PHANTOM_CASE = re.compile(r"TCGA_(PH_\d+)(?:_\d{8})?")
"""Case of the brain phantom, in the form of the LGG data."""
TRAINING_NAMES = {"digital": "digitally trained", "hwa": "hardware-aware"}


def model_name(model: str) -> str:
    """Return a model's name as in the literature; unknown models keep their names.

    Example:
        >>> model_name("unetpp"), model_name("my.package:net")
        ('U-Net++', 'my.package:net')
    """
    return _MODELS.get(model, model)


def normalised_name(metric: str) -> str:
    """Return the name of a metric on the chip relative to its digital value.

    Example:
        >>> normalised_name("dice")
        'normalised Dice'
    """
    return f"normalised {label_of(metric)}"


def normalised_meaning(metric: str) -> str:
    """Return the definition of a normalised metric as a sentence.

    Example:
        >>> normalised_meaning("auroc")[:49]
        'Normalised AUROC: AUROC above chance on the chip '
    """
    value = f"{label_of(metric)} above chance" if chance_of(metric) else label_of(metric)
    return (
        f"{capitalised(normalised_name(metric))}: {value} on the chip divided by that of the "
        "digitally trained network of the model, run digitally."
    )


def task_name(task: str) -> str:
    """Return the display name of a data set; unknown data sets keep their names.

    Example:
        >>> task_name("phantom_brain"), task_name("Task09_Spleen")
        ('Brain phantom', 'Task09_Spleen')
    """
    return _TASKS.get(task, task)


def event_name(task: str) -> str:
    """Return the name of what is classified along a signal of a data set.

    Example:
        >>> event_name("mitbih"), event_name("my_signals")
        ('beat', 'window')
    """
    return _EVENTS.get(task, "window")


def hardware_name(hardware: str) -> str:
    """Return the display name of a hardware preset; unknown presets keep their names.

    Example:
        >>> hardware_name("pcm"), hardware_name("digital")
        ('PCM', 'digital')
    """
    return _HARDWARE.get(hardware, hardware)


def place_name(task: str, hardware: str) -> str:
    """Return the data set and chips of a run as text.

    Example:
        >>> place_name("phantom_brain", "pcm"), place_name("lgg", "my_preset")
        ('Brain phantom on PCM chips', 'LGG on my_preset chips')
    """
    return f"{task_name(task)} on {hardware_name(hardware)} chips"


def training_name(training: str) -> str:
    """Return ``digitally trained`` or ``hardware-aware``; others keep their names."""
    return TRAINING_NAMES.get(training, training)


def network_name(model: str, training: str) -> str:
    """Return the name of a network in a sentence.

    Example:
        >>> network_name("unet", "hwa")
        'hardware-aware U-Net'
    """
    return f"{training_name(training)} {model_name(model)}"


def network_label(model: str, training: str) -> str:
    """Return the name of a network in a table.

    Example:
        >>> network_label("unet", "hwa")
        'U-Net, hardware-aware'
    """
    return f"{model_name(model)}, {training_name(training)}"


def capitalised(sentence: str) -> str:
    """Return a sentence with an upper-case first letter, otherwise unchanged."""
    return sentence[:1].upper() + sentence[1:]


def metric_title(metric: str, unit: str) -> str:
    """Return the label of a metric with its unit.

    Example:
        >>> metric_title("hd95", "mm"), metric_title("dice", "1")
        ('HD95 (mm)', 'Dice')
    """
    label = label_of(metric)
    return label if unit == "1" else f"{label} ({unit})"


def drop_title(metric: str, unit: str, lower_is_better: bool | None = None) -> str:
    """Return the title of the drop of a metric against the digital run, with its unit.

    Example:
        >>> drop_title("dice", "1"), drop_title("hd95", "mm")
        ('Dice drop against digital', 'HD95 rise against digital (mm)')
    """
    title = f"{label_of(metric)} {drop_word(metric, lower_is_better)} against digital"
    return title if unit == "1" else f"{title} ({unit})"


def is_synthetic(task: str, case: str = "") -> bool:
    """Return whether the images of a data set, or of one of its cases, are synthetic.

    Phantoms have the layout of a real data set; the brain phantom has cases of its own form.

    Example:
        >>> is_synthetic("phantom_spleen"), is_synthetic("lgg", "TCGA_PH_0007"), is_synthetic("lgg")
        (True, True, False)
    """
    return task.startswith("phantom_") or bool(_PHANTOM_CASE.match(case))


def case_name(task: str, case: str) -> str:
    """Return the display name of a case, which says where a case is synthetic.

    Example:
        >>> case_name("phantom_brain", "TCGA_PH_0007_20000101"), case_name("lgg", "TCGA_CS_4941")
        ('synthetic, PH_0007', 'TCGA_CS_4941')
    """
    short = _PHANTOM_CASE.sub(r"\1", case)
    return f"synthetic, {short}" if is_synthetic(task, case) else case


def with_article(label: str) -> str:
    """Return a label of a metric with its indefinite article; abbreviations are read by letters.

    Example:
        >>> with_article("Dice"), with_article("HD95"), with_article("NSD")
        ('a Dice', 'an HD95', 'an NSD')
    """
    vowels = "AEIOU" if label[1:2].islower() else "AEFHILMNORSX"
    return f"{'an' if label[:1].upper() in vowels else 'a'} {label}"
