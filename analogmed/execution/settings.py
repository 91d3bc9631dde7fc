"""Settings of the execution engine."""

from dataclasses import dataclass
from typing import Literal

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_at_least_one, require_at_least_zero
from analogmed.foundation.settings.forms import checks_arguments


@checks_arguments
@dataclass(frozen=True)
class EngineConfig:
    """Execution engine of studies and searches.

    Only the number of threads affects results, in the last digits.

    Attributes:
        name: local runs processes on this machine; ray requires pip install 'analogmed[ray]'.
        workers: number of units (chips, digital runs or candidates) that are computed at once. If
            it is not set, one in this process, and with ray as many as fit.
        address: address of a Ray cluster, for instance auto or ray://head:10001; by default Ray is
            started on this machine for the run.
        cpus: number of processor cores that Ray reserves for a unit.
        gpus: number of GPUs that Ray reserves for a unit; several units share a GPU at a fraction
            such as 0.25.
        threads: number of threads of a unit, 1 or more. If it is not set, the cores are divided
            among workers, and Ray uses cpus. The last digits of the outputs of a chip depend on it,
            so stored chips are reused only with the same number.
    """

    name: Literal["local", "ray"] = "local"
    workers: int | None = None
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    threads: int | None = None

    @property
    def is_serial(self) -> bool:
        """Whether units are computed in this process, one after the other."""
        return self.name == "local" and self.workers in (None, 1)

    def __post_init__(self) -> None:
        if self.workers is not None:
            require_at_least_one("engine.workers", self.workers)
        if self.threads is not None:
            require_at_least_one("engine.threads", self.threads)
        require_at_least_zero("engine.cpus", self.cpus, zero=False)
        require_at_least_zero("engine.gpus", self.gpus)
        if self.name == "local" and self.address is not None:
            raise ConfigError("engine.address is a Ray cluster's; add --engine.name ray")
