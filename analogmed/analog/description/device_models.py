"""Statistical models of devices (programming, drift, read noise), by name; all are aihwkit's.

Importing this file does not import aihwkit.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from analogmed.foundation.errors import ConfigError

NoiseModelName = Literal["pcm", "hermes", "reram_wan2022", "reram_cmo", "state_independent"]


@dataclass(frozen=True)
class DeviceModel:
    """One of aihwkit's noise models.

    Attributes:
        name: name in the settings.
        model: class of aihwkit, as ``module:class``.
        preset: hardware preset that uses the model, for messages.
        arguments: names of the class's arguments, each with the setting that it takes its value
            from.
        fixed_g_max_us: largest conductance in uS, if the model was fitted for a single one.
        has_known_times: whether the model was fitted at some times only.
    """

    name: NoiseModelName
    model: str
    preset: str
    arguments: tuple[tuple[str, str], ...]
    fixed_g_max_us: float | None = None
    has_known_times: bool = False

    @property
    def has_one_scale(self) -> bool:
        """Whether a single factor, ``prog_noise_scale``, scales all noise of the model."""
        return "read_noise_scale" not in {setting for _, setting in self.arguments}

    def make(self, settings: Any) -> Any:
        """Return an object of aihwkit's class.

        Args:
            settings: object with the fields of ``Hardware`` that describe devices.

        Raises:
            ConfigError: the largest conductance does not fit the model.
        """
        try:
            return self._make(settings)
        except (AssertionError, ValueError) as error:
            raise ConfigError(
                f"hardware.g_max_us: {settings.g_max_us} uS does not fit the noise model "
                f"'{self.name}': {error}; start from preset '{self.preset}'"
            ) from error

    def known_times(self) -> tuple[float, ...] | None:
        """Return the times in s that the model was fitted at; ``None`` if it covers all times."""
        return tuple(sorted(self._class()().coeff_dic)) if self.has_known_times else None

    def _make(self, settings: Any) -> Any:
        arguments = {name: getattr(settings, setting) for name, setting in self.arguments}
        if self.fixed_g_max_us is not None:
            if settings.g_max_us not in (None, self.fixed_g_max_us):
                raise ValueError(
                    f"its fit is for {self.fixed_g_max_us:g} uS, and aihwkit does not rescale its "
                    "noise"
                )
            arguments["g_max"] = self.fixed_g_max_us
        return self._class()(**arguments)

    def _class(self) -> Any:
        module, _, name = self.model.partition(":")
        return getattr(import_module(module), name)


def device_model(name: NoiseModelName) -> DeviceModel:
    """Return the device model with a given name."""
    return _MODELS[name]


_SCALES = (
    ("g_max", "g_max_us"),
    ("prog_noise_scale", "prog_noise_scale"),
    ("read_noise_scale", "read_noise_scale"),
    ("drift_scale", "drift_scale"),
)
_MODELS: dict[str, DeviceModel] = {
    model.name: model
    for model in (
        DeviceModel("pcm", "aihwkit.inference:PCMLikeNoiseModel", "pcm", _SCALES),
        DeviceModel("hermes", "aihwkit.inference.noise.hermes:HermesNoiseModel", "hermes", _SCALES),
        DeviceModel(
            "reram_wan2022",
            "aihwkit.inference:ReRamWan2022NoiseModel",
            "reram",
            (("noise_scale", "prog_noise_scale"),),
            fixed_g_max_us=40.0,  # Wan et al. 2022: aihwkit's fit in uS is for this conductance
            has_known_times=True,
        ),
        DeviceModel(
            "reram_cmo",
            "aihwkit.inference:ReRamCMONoiseModel",
            "reram_cmo",
            (*_SCALES, ("acceptance_range", "acceptance_range_percent")),
        ),
        DeviceModel(
            "state_independent", "aihwkit.inference:StateIndependentNoiseModel", "pcm", _SCALES
        ),
    )
}
