"""Candidates as units of work of an executor: each is trained and evaluated on chips."""

from dataclasses import dataclass
from pathlib import Path

from analogmed.data.settings import TaskConfig
from analogmed.execution.compute import Step
from analogmed.execution.unit import Unit
from analogmed.foundation.errors import CheckpointError, ConfigError, DataError
from analogmed.search.evaluator import ChipEvaluator, Evaluator, make_evaluator
from analogmed.search.settings import SearchConfig
from analogmed.search.trials.queue import ClaimedTrial


@dataclass(frozen=True)
class CandidateUnit(Unit):
    """Unit of work that evaluates one candidate.

    Attributes:
        claim: trial and genotype of the candidate.
        folder: folder for the candidate's results.
    """

    claim: ClaimedTrial
    folder: Path

    @classmethod
    def of(cls, claim: ClaimedTrial, folder: Path) -> "CandidateUnit":
        """Return the unit of a trial."""
        described = {"trial": claim.number, "genotype": claim.genotype.key}
        return cls(described, f"trial {claim.number}", 1, claim, folder)


class CandidateCompute:
    """Computation that evaluates candidates.

    Args:
        evaluator: evaluator that trains a network and evaluates it on chips.
    """

    fatal = (ConfigError, DataError, CheckpointError, OSError)

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def __call__(self, unit: CandidateUnit, step: Step) -> dict[str, float]:
        """Return the metrics of a candidate."""
        return dict(self._evaluator.evaluate(unit.claim.genotype, unit.folder))


@dataclass(frozen=True)
class MakeCandidates:
    """Factory for the computation that evaluates candidates, in any process.

    Attributes:
        config: settings of the search.
        task: data of the search, with its selection split.
    """

    config: SearchConfig
    task: TaskConfig

    def __call__(self) -> CandidateCompute:
        """Return the computation."""
        return CandidateCompute(self.evaluator())

    def evaluator(self) -> ChipEvaluator:
        """Return the evaluator alone."""
        return make_evaluator(self.config, self.task)
