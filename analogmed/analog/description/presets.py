"""Arguments of each named hardware preset, with their sources."""

from typing import Any

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import known_name, nearest

_PCM: dict[str, Any] = {
    "perfect": False,
    "tile_size": 512,
    "row_copies": 1,
    "dac_steps": 254,
    "adc_steps": 254,
    "inp_bound": 1.0,
    "out_bound": 10.0,
    "inp_noise": 0.0,
    "out_noise": 0.04,
    "weight_noise": "none",
    "weight_noise_std": 0.0,
    "noise_management": "none",
    "input_range": True,
    "input_range_decay": 0.01,
    "input_range_keep": 0.995,
    "modifier": "add_normal",
    "modifier_std": 0.06,
    "modifier_coeffs": None,
    "modifier_clip": 0.6,
    "modifier_t_inference_s": 0.0,
    "drop_connect": 0.0,
    "learned_out_scale": "none",
    "clip": "layer_gaussian",
    "clip_sigma": 2.0,
    "clip_value": 1.0,
    "remap": "layerwise",
    "noise_model": "pcm",
    "g_max_us": 25.0,
    "prog_noise_scale": 1.0,
    "read_noise_scale": 1.0,
    "drift_scale": 1.0,
    "drift_compensation": "global",
    "acceptance_range_percent": 0.2,
}

_ANALOGNAS: dict[str, Any] = _PCM | {
    "tile_size": (256, 255),
    "dac_steps": 256,
    "adc_steps": 256,
    "noise_management": "abs_max",
    "input_range": False,
    "out_noise": 0.1,
    "out_bound": 20.0,
    "modifier_std": 0.05,
    "clip": "fixed",
    "remap": "none",
}

PRESETS: dict[str, dict[str, Any]] = {
    "pcm": _PCM,
    "analognas": _ANALOGNAS,
    "analognas-as-coded": _ANALOGNAS | {"modifier": "none"},
    "hermes": _PCM | {"tile_size": 256, "noise_model": "hermes", "g_max_us": None},
    "reram": _PCM
    | {"noise_model": "reram_wan2022", "g_max_us": 40.0, "drift_compensation": "none"},
    "reram_cmo": _PCM
    | {"noise_model": "reram_cmo", "g_max_us": None, "drift_compensation": "none"},
    "ideal": _PCM
    | {
        "perfect": True,
        "dac_steps": 0,
        "adc_steps": 0,
        "out_noise": 0.0,
        "input_range": False,
        "modifier": "none",
        "clip": "none",
        "prog_noise_scale": 0.0,
        "read_noise_scale": 0.0,
        "drift_scale": 0.0,
        "drift_compensation": "none",
    },
}
"""All arguments of each preset."""

DESCRIPTIONS = {
    "pcm": "phase-change memory with the settings of AnalogNAS-Bench: tiles of 512, 8 bits",
    "analognas": "create_rpu_config(g_max=25, tile_size=256, dac_res=256, adc_res=256, "
    "noise_std=5.0) of AnalogNAS, with noise_std in per cent of the largest weight",
    "analognas-as-coded": "the same as AnalogNAS runs it: its code never sets the type of the "
    "modifier, so that noise_std has no effect",
    "hermes": "the 64-core PCM chip (Le Gallo et al. 2023): its devices, tiles of 256",
    "reram": "resistive memory (Wan et al. 2022), defined at 1 s, 1 day and 2 days only",
    "reram_cmo": "CMO/HfOx resistive memory of aihwkit at any time, programmed to 0.2 % of the "
    "target",
    "ideal": "digital computation, to check a set-up",
}
"""Description of each preset, with its source."""


def spelled_preset(name: str) -> str:
    """Return the preset that a text spells in any case.

    Raises:
        ConfigError: there is none; the message has the nearest one.
    """
    spelled = known_name(name, PRESETS)
    if spelled not in PRESETS:
        raise ConfigError(f"unknown hardware preset '{name}'; {nearest(name, PRESETS)}")
    return spelled
