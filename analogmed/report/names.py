"""How networks are called in sentences and headings."""

_MODELS = {
    "unet": "U-Net",
    "unetpp": "U-Net++",
    "swin_unetr": "Swin-UNETR",
    "attention_unet": "Attention U-Net",
    "dynunet": "DynUNet",
}
_TASKS = {
    "phantom_brain": "Brain phantom",
    "phantom_spleen": "Spleen phantom",
    "phantom_nuclei": "Nuclei phantom",
    "lgg": "LGG",
    "dsb2018": "DSB 2018",
}
_HARDWARE = {"pcm": "PCM", "reram": "ReRAM", "hermes": "Hermes", "ideal": "ideal"}
_TRAININGS = {"digital": "digitally trained", "hwa": "hardware-aware"}


def model_name(model: str) -> str:
    """A model as papers write it; others by their own name.

    Example:
        >>> model_name("unetpp"), model_name("my.package:net")
        ('U-Net++', 'my.package:net')
    """
    return _MODELS.get(model, model)


def task_name(task: str) -> str:
    """A data set as a heading has it; others by their own name.

    Example:
        >>> task_name("phantom_brain"), task_name("Task09_Spleen")
        ('Brain phantom', 'Task09_Spleen')
    """
    return _TASKS.get(task, task)


def hardware_name(hardware: str) -> str:
    """A preset as a heading has it; others by their own name.

    Example:
        >>> hardware_name("pcm"), hardware_name("digital")
        ('PCM', 'digital')
    """
    return _HARDWARE.get(hardware, hardware)


def place_name(task: str, hardware: str) -> str:
    """Data and chips that a network ran on.

    Example:
        >>> place_name("phantom_brain", "pcm"), place_name("lgg", "my_preset")
        ('Brain phantom on PCM chips', 'LGG on my_preset chips')
    """
    return f"{task_name(task)} on {hardware_name(hardware)} chips"


def training_name(training: str) -> str:
    """``digitally trained`` or ``hardware-aware``; others by their own name."""
    return _TRAININGS.get(training, training)


def network_name(model: str, training: str) -> str:
    """A network in a sentence.

    Example:
        >>> network_name("unet", "hwa")
        'hardware-aware U-Net'
    """
    return f"{training_name(training)} {model_name(model)}"


def network_label(model: str, training: str) -> str:
    """A network in a table.

    Example:
        >>> network_label("unet", "hwa")
        'U-Net, hardware-aware'
    """
    return f"{model_name(model)}, {training_name(training)}"


def capitalised(sentence: str) -> str:
    """The first letter large, the others as they are."""
    return sentence[:1].upper() + sentence[1:]
