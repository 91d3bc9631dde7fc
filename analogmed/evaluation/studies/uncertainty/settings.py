"""Settings of the uncertainty measurement, and of the mitigations."""

from dataclasses import dataclass
from typing import Literal

from analogmed.evaluation.settings import Experiment, SweepConfig, require_fixed_chips
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import (
    require_at_least_one,
    require_at_least_zero,
    require_number,
)
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.time_constants import DAY_S

Source = Literal["deterministic", "chips", "mc_dropout", "ensemble"]
Mitigation = Literal["drift_compensation", "batchnorm", "input_ranges", "temperature"]
TIMES_S = (0.0, DAY_S, 30 * DAY_S)


@dataclass(frozen=True)
class _OnChips(Experiment):
    """Settings that both measurements add to those of an evaluation."""

    only_primary = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fixed_chips(self)
        if self.profile is not None:
            raise ConfigError("profile: this program computes no cost; give the profile to eval")


@checks_arguments
@dataclass(frozen=True)
class UncertaintyConfig(_OnChips):
    """Predictive uncertainty and calibration of networks, digitally and on chips.

    Attributes:
        checkpoints: trained networks; by default the shipped networks of the task. Several networks
            of one model and training form an ensemble, of which the first is evaluated on chips.
        sweep: chips, times and reads; digital baselines make chips x reads passes too.
        sources: sources of passes: deterministic (one digital pass), chips, mc_dropout, ensemble.
        dropout: dropout rate before every layer but the first, for mc_dropout with networks trained
            without dropout (Mi et al. 2022, arXiv:1910.04858); 0 uses only the dropout layers of
            the network.
        temperature: fit a temperature on the validation cases for each source and time, and report
            scaled values too.
        temperature_region: voxels on which the temperature is fitted: the band around the
            reference, or the whole image, which confident background dominates; without effect in
            classification.
        alpha: target share of missed voxels of conformal masks, or of missed images with a class of
            conformal label sets, in (0, 1).
        conformal_cases: patients that set the threshold: validation, or leave_one_out, all patients
            of validation and test except the tested one.
        bins: number of bins of calibration errors and reliability diagrams.
        margin: margin of the boundary band, in voxels, by which the reference is dilated; without
            effect in classification.
        metrics: the primary metric of the task, the only one of this command.
        tolerance: without effect in this command, which does not compute nsd.
        limit: without effect in this command, which computes no time to failure.
        profile: not supported by this command, which computes no cost.
        level: without effect in this command.
        out: run folder; by default runs/NAME.
        name: name of the run.
    """

    sweep: SweepConfig = SweepConfig(chips=5, times_s=TIMES_S, reads=4)
    sources: tuple[Source, ...] = ("deterministic", "chips", "mc_dropout", "ensemble")
    dropout: float = 0.0
    temperature: bool = True
    temperature_region: Literal["band", "image"] = "band"
    alpha: float = 0.1
    conformal_cases: Literal["validation", "leave_one_out"] = "validation"
    bins: int = 15
    margin: int = 5
    name: str = "uncertainty"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sources", tuple(dict.fromkeys(self.sources)))
        if not self.sources:
            raise ConfigError("sources is empty; give at least one, for instance chips")
        require_number("dropout", self.dropout, at_least=0, below=1)
        require_number("alpha", self.alpha, above=0, below=1)
        require_at_least_one("bins", self.bins)
        require_at_least_zero("margin", self.margin)

    @property
    def passes(self) -> int:
        """Passes of one input at one time."""
        return self.sweep.chips * self.sweep.reads


@checks_arguments
@dataclass(frozen=True)
class MitigationConfig(_OnChips):
    """Effect and cost of corrections of a chip after programming.

    Attributes:
        options: mitigations to measure, each alone and all together, on chips with drift
            compensation: drift_compensation (against none), batchnorm, input_ranges, temperature.
        images: number of unlabelled training images that batchnorm and input_ranges use on the
            chip.
        temperature_region: voxels on which a temperature is fitted: the band around the reference,
            or the whole image; without effect in classification.
        margin: margin of the boundary band, in voxels, by which the reference is dilated; without
            effect in classification.
        metrics: the primary metric of the task, the only one of this command.
        tolerance: without effect in this command, which does not compute nsd.
        limit: without effect in this command, which computes no time to failure.
        profile: not supported by this command, which computes no cost.
        level: without effect in this command.
        out: run folder; by default runs/NAME.
        name: name of the run.
    """

    sweep: SweepConfig = SweepConfig(chips=5, times_s=TIMES_S)
    options: tuple[Mitigation, ...] = (
        "drift_compensation",
        "batchnorm",
        "input_ranges",
        "temperature",
    )
    images: int = 32
    temperature_region: Literal["band", "image"] = "band"
    margin: int = 5
    name: str = "mitigation"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "options", tuple(dict.fromkeys(self.options)))
        if not self.options:
            raise ConfigError("options is empty; give at least one, for instance batchnorm")
        require_at_least_one("images", self.images)
        require_at_least_zero("margin", self.margin)
        if self.backend == "aihwkit":
            raise ConfigError("backend: mitigations are measured with analogmed's layers only")
