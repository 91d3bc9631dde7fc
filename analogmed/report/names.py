"""How networks are called in sentences and headings."""

_MODELS = {
    "unet": "U-Net",
    "unetpp": "U-Net++",
    "swin_unetr": "Swin-UNETR",
    "attention_unet": "Attention U-Net",
    "dynunet": "DynUNet",
}
_TRAININGS = {"digital": "digitally trained", "hwa": "hardware-aware"}


def model_name(model: str) -> str:
    """A model as papers write it; others by their own name.

    Example:
        >>> model_name("unetpp"), model_name("my.package:net")
        ('U-Net++', 'my.package:net')
    """
    return _MODELS.get(model, model)


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


def capitalised(sentence: str) -> str:
    """The first letter large, the others as they are."""
    return sentence[:1].upper() + sentence[1:]
