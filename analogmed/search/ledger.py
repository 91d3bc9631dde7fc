"""What has become of each network of a study, and which is the next one to evaluate."""

import hashlib
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Literal

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from analogmed.errors import AnalogmedError
from analogmed.models import Genotype
from analogmed.search.evaluator import Evaluator
from analogmed.search.locks import FileLock
from analogmed.search.objectives import Goal
from analogmed.search.space import Space
from analogmed.search.strategy import (
    ERROR_ATTRIBUTE,
    METRICS_ATTRIBUTE,
    VIOLATIONS_ATTRIBUTE,
    distributions,
)

WORKER, SECONDS, ERROR = "worker", "seconds", ERROR_ATTRIBUTE
COPY_OF, TWIN_OF = "copy_of", "twin_of"
"""Attributes of a trial: who evaluates its network, how long it took, and why it failed; the trial
that had evaluated the same network before, or was evaluating it just then."""


class Status(Enum):
    """What has become of a trial."""

    EVALUATED = "evaluated"
    KNOWN = "known"
    """The strategy has proposed a network again; its metrics are copied."""
    INFEASIBLE = "infeasible"
    """It breaks a constraint that needs no training, and was not trained."""
    FAILED = "failed"
    RUNNING = "running"
    LOST = "lost"
    """Its process was ended, or another one had the same network in work."""

    @classmethod
    def of(cls, trial: FrozenTrial) -> "Status":
        """The status of a trial."""
        if trial.state is TrialState.COMPLETE:
            return cls.KNOWN if COPY_OF in trial.user_attrs else cls.EVALUATED
        if trial.state is TrialState.PRUNED:
            return cls.INFEASIBLE
        if trial.state is TrialState.FAIL:
            return cls.FAILED if ERROR in trial.user_attrs else cls.LOST
        return cls.RUNNING


_ASKING = timedelta(minutes=10)
_EVALUATING = timedelta(days=1)
"""How long a machine elsewhere may take to choose a network, and to evaluate it."""


@dataclass(frozen=True)
class Claim:
    """A network that this process is to evaluate.

    Attributes:
        number: of its trial.
        genotype: the network.
    """

    number: int
    genotype: Genotype


class Ledger:
    """Hands out networks, and takes down what was found, for all processes that share a study.

    Between them they take turns by a lock in the run folder, so that none is evaluated twice and
    the budget is kept exactly. Processes that share a database but no folder may exceed the budget
    by as many networks as there are such processes less one; what one of them had in work when it
    was ended is missed after a day.

    Args:
        study: the study, with its sampler.
        space: of the networks.
        goal: of the search.
        evaluator: counts what needs no training.
        budget: networks that may be evaluated.
        proposals: networks that may be proposed for each of them.
        folder: of the locks.
        elsewhere: whether processes may take part that do not share the folder.
    """

    def __init__(
        self,
        study: Study,
        space: Space,
        goal: Goal,
        evaluator: Evaluator,
        *,
        budget: int,
        proposals: int,
        folder: Path,
        elsewhere: bool = False,
    ) -> None:
        self.study, self.space, self.goal = study, space, goal
        self._evaluator = evaluator
        self.budget, self._most = budget, budget * proposals
        self._locks = folder / "locks"
        self._locks.mkdir(parents=True, exist_ok=True)
        self._claimed: dict[int, Trial] = {}
        self._genotypes: dict[int, Genotype] = {}
        self._turn = FileLock(self._locks / "turn")
        self._elsewhere = elsewhere
        where = hashlib.sha256(str(self._locks.resolve()).encode()).hexdigest()[:8]
        self._home = f"{socket.gethostname()}-{where}-"
        self._worker = f"{self._home}{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._alive = FileLock(self._locks / self._worker)
        self._alive.acquire()

    def close(self) -> None:
        """Give back what is still in work; other processes may then take it."""
        with self._turn.held():
            for trial in self._trials():
                mine = trial.user_attrs.get(WORKER) == self._worker
                if mine and Status.of(trial) is Status.RUNNING:
                    self.study.tell(trial.number, state=TrialState.FAIL)
        self._alive.release()
        self._alive.path.unlink(missing_ok=True)

    def claim(self) -> Claim | Literal["later"] | None:
        """The next network to evaluate.

        Returns:
            ``"later"`` where the strategy proposes what another process has in work; ``None`` where
            the budget is spent, or as many networks as may be have been proposed.
        """
        with self._turn.held():
            self._bury()
            while self.spent() < self.budget and len(self._trials()) < self._most:
                trial = self.study.ask(distributions(self.space))
                trial.set_user_attr(WORKER, self._worker)
                genotype = self.space.decode(trial.params)
                twin = self._twin(trial.number, genotype)
                if twin is not None and Status.of(twin) is Status.RUNNING:
                    trial.set_user_attr(TWIN_OF, twin.number)
                    self.study.tell(trial, state=TrialState.FAIL)
                    return "later"
                if twin is not None:
                    self._copy(trial, twin)
                elif not self._is_refused(trial, genotype):
                    self._claimed[trial.number] = trial
                    return Claim(trial.number, genotype)
        return None

    def finish(self, claim: Claim, metrics: Mapping[str, float], seconds: float) -> None:
        """Take down what was measured of a network.

        Args:
            claim: the network.
            metrics: all that the goal asks for, and more.
            seconds: that it took.
        """
        missing = [name for name in self.goal.metrics if name not in metrics]
        if missing:
            self.fail(claim, f"its evaluation gave no {', '.join(missing)}", seconds)
            return
        with self._turn.held():
            trial = self._running(claim)
            if trial is not None:
                trial.set_user_attr(SECONDS, seconds)
                self._describe(trial, metrics)
                self.study.tell(trial, self.goal.values(metrics))

    def fail(self, claim: Claim, error: str, seconds: float) -> None:
        """Take down that a network could not be evaluated.

        Args:
            claim: the network.
            error: why.
            seconds: that it took.
        """
        with self._turn.held():
            trial = self._running(claim)
            if trial is not None:
                trial.set_user_attr(SECONDS, seconds)
                trial.set_user_attr(ERROR, error)
                self.study.tell(trial, state=TrialState.FAIL)

    def spent(self) -> int:
        """Networks that count: evaluated, failed in it, or in work anywhere."""
        return sum(map(_spends, self._trials()))

    def in_work(self) -> int:
        """Networks that processes are evaluating."""
        return sum(Status.of(trial) is Status.RUNNING for trial in self._trials())

    def _trials(self) -> Sequence[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _bury(self) -> None:
        """Take down as lost what nobody has in work any more.

        A process holds a lock as long as it lives. Of processes that share a database but no folder
        there is no such lock: what they have had in work for a day is lost.
        """
        for trial in self._trials():
            worker = trial.user_attrs.get(WORKER)
            if trial.state is TrialState.RUNNING and worker != self._worker:
                age = datetime.now() - (trial.datetime_start or datetime.now())
                if self._is_lost(worker, age):
                    self.study.tell(trial.number, state=TrialState.FAIL)

    def _is_lost(self, worker: str | None, age: timedelta) -> bool:
        if worker is None:  # its process has asked for it, and not yet said who it is
            return age > _ASKING if self._elsewhere else True
        lock = FileLock(self._locks / worker)
        if not lock.path.exists():
            return worker.startswith(self._home) or age > _EVALUATING
        if not lock.acquire(wait=False):
            return False
        lock.release()
        lock.path.unlink(missing_ok=True)
        return True

    def _twin(self, number: int, genotype: Genotype) -> FrozenTrial | None:
        """An earlier trial of the same network that has told something of it, or will."""
        for trial in self._trials():
            if trial.number == number or Status.of(trial) is Status.LOST:
                continue
            if trial.number not in self._genotypes:
                self._genotypes[trial.number] = self.space.decode(trial.params)
            if self._genotypes[trial.number] == genotype:
                return trial
        return None

    def _copy(self, trial: Trial, twin: FrozenTrial) -> None:
        trial.set_user_attr(COPY_OF, twin.user_attrs.get(COPY_OF, twin.number))
        if METRICS_ATTRIBUTE in twin.user_attrs:
            self._describe(trial, twin.user_attrs[METRICS_ATTRIBUTE])
        if ERROR in twin.user_attrs:
            trial.set_user_attr(ERROR, twin.user_attrs[ERROR])
        values = twin.values if twin.state is TrialState.COMPLETE else None
        self.study.tell(trial, values, state=twin.state)

    def _is_refused(self, trial: Trial, genotype: Genotype) -> bool:
        """Whether a network breaks a constraint that needs no training, or cannot be built."""
        try:
            counted = self._evaluator.count(genotype)
        except AnalogmedError as error:
            trial.set_user_attr(ERROR, str(error))
            self.study.tell(trial, state=TrialState.FAIL)
            return True
        known = [c for c in self.goal.constraints if c.metric in counted]
        if all(constraint.violation(counted) <= 0 for constraint in known):
            return False
        self._describe(trial, counted)
        self.study.tell(trial, state=TrialState.PRUNED)
        return True

    def _describe(self, trial: Trial, metrics: Mapping[str, float]) -> None:
        """Metrics and violations; constraints of which nothing is known are not broken yet."""
        trial.set_user_attr(METRICS_ATTRIBUTE, dict(metrics))
        trial.set_user_attr(VIOLATIONS_ATTRIBUTE, [*self.goal.known_violations(metrics)])

    def _running(self, claim: Claim) -> Trial | None:
        """The trial of a claim; ``None`` if another process has taken this one for dead."""
        trial = self._claimed.pop(claim.number)
        return trial if self._trials()[claim.number].state is TrialState.RUNNING else None


def _spends(trial: FrozenTrial) -> bool:
    """Whether a trial takes one of the budget; a network that cannot even be counted does not."""
    if COPY_OF in trial.user_attrs:
        return False
    status = Status.of(trial)
    failed = status is Status.FAILED and SECONDS in trial.user_attrs
    return failed or status in (Status.EVALUATED, Status.RUNNING)
