"""Status of each network of a study, and selection of the next one to evaluate."""

import hashlib
import os
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Literal

from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from analogmed.foundation.errors import AnalogmedError
from analogmed.models import Genotype
from analogmed.search.evaluator import Evaluator
from analogmed.search.objectives import Goal
from analogmed.search.space.space import Space
from analogmed.search.strategy import (
    ERROR_ATTRIBUTE,
    METRICS_ATTRIBUTE,
    VIOLATIONS_ATTRIBUTE,
    distributions,
)
from analogmed.search.trials.heartbeat import Heartbeat, age_of
from analogmed.search.trials.journal_lock import FileLock

WORKER, SECONDS, ERROR = "worker", "seconds", ERROR_ATTRIBUTE
COPY_OF, TWIN_OF = "copy_of", "twin_of"
ENDED = "processes_ended"
"""Attributes of a trial.

They are the process that evaluates its network, the duration, and the reason of a failure; the
trial that had evaluated the same network before, or was evaluating it at that time; and the number
of processes that were killed while they evaluated it.
"""

_FREE = ""
"""Worker of a trial whose process has ended: the next process continues with it."""


class TrialStatus(Enum):
    """Status of a trial."""

    EVALUATED = "evaluated"
    KNOWN = "known"
    """The strategy has proposed a network again; its metrics are copied."""
    INFEASIBLE = "infeasible"
    """The network breaks a constraint that needs no training, and was not trained."""
    FAILED = "failed"
    RUNNING = "running"
    LOST = "lost"
    """Its process has ended and no other one has continued yet, or it duplicated a network that was
    being evaluated."""

    @classmethod
    def of(cls, trial: FrozenTrial) -> "TrialStatus":
        """Return the status of a trial."""
        if trial.state is TrialState.COMPLETE:
            return cls.KNOWN if COPY_OF in trial.user_attrs else cls.EVALUATED
        if trial.state is TrialState.PRUNED:
            return cls.INFEASIBLE
        if trial.state is TrialState.FAIL:
            return cls.FAILED if ERROR in trial.user_attrs else cls.LOST
        return cls.LOST if trial.user_attrs.get(WORKER) == _FREE else cls.RUNNING


_ASKING = timedelta(minutes=10)
_SILENT = timedelta(days=1)
"""Limits for a machine elsewhere: time to choose a network, and time without a heartbeat."""
_MOST_DOUBLINGS = 9  # 512 s
_MOST_ENDED = 3
"""Number of killed processes after which the network of a trial has failed."""


@dataclass(frozen=True)
class ClaimedTrial:
    """A network that this process is to evaluate.

    Attributes:
        number: number of its trial.
        genotype: genotype of the network.
    """

    number: int
    genotype: Genotype


class TrialQueue:
    """Queue that assigns networks and records results, for all processes that share a study.

    The processes take turns by a lock in the run folder, so that no network is evaluated twice and
    the budget is exact. Processes that share a database but no folder may exceed the budget by one
    network each, except for the first process.

    A network whose process has ended keeps its trial: the next process evaluates it under the same
    number, so that an interrupted search proposes and evaluates the same networks as an
    uninterrupted one. Processes elsewhere send heartbeats; without one for a day, a process counts
    as ended. If it is alive after all, its result is still accepted.

    Args:
        study: the study, with its sampler.
        space: search space of the networks.
        goal: goal of the search.
        evaluator: evaluator for metrics that need no training.
        budget: number of networks that may be evaluated.
        proposals: number of networks that may be proposed for each of them.
        folder: run folder, which contains the locks.
        elsewhere: whether processes that do not share the folder may take part.
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
        self._unnamed: dict[int, float] = {}
        self._twins_in_a_row, self._ask_again_s = 0, 0.0
        where = hashlib.sha256(str(self._locks.resolve()).encode()).hexdigest()[:8]
        self._home = f"{socket.gethostname()}-{where}-"
        self._worker = f"{self._home}{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._alive = FileLock(self._locks / self._worker)
        self._alive.acquire()
        self._heartbeat = Heartbeat()
        if elsewhere:
            self._heartbeat.start()

    def close(self) -> None:
        """Release the networks that this process has not finished; other processes take them."""
        self._heartbeat.stop()
        with self._turn.held():
            for trial in self._trials():
                if trial.user_attrs.get(WORKER) == self._worker and not trial.state.is_finished():
                    Trial(self.study, trial._trial_id).set_user_attr(WORKER, _FREE)
        self._alive.release()
        self._alive.path.unlink(missing_ok=True)

    def claim(self) -> ClaimedTrial | Literal["later"] | None:
        """Return the next network to evaluate.

        Returns:
            ``"later"`` if the strategy proposes a network that another process is evaluating;
            ``None`` if the budget is spent, or the largest number of networks has been proposed.
        """
        with self._turn.held():
            self._release_ended()
            while self.spent() < self.budget:
                trial = self._next()
                if not isinstance(trial, Trial):
                    return trial
                genotype = self.space.decode(trial.params)
                twin = self._twin(trial.number, genotype)
                if twin is not None and TrialStatus.of(twin) is TrialStatus.RUNNING:
                    trial.set_user_attr(TWIN_OF, twin.number)
                    self.study.tell(trial, state=TrialState.FAIL)
                    self._ask_again_s = time.monotonic() + 2.0**self._twins_in_a_row - 1
                    self._twins_in_a_row = min(self._twins_in_a_row + 1, _MOST_DOUBLINGS)
                    return "later"
                self._twins_in_a_row = 0
                if twin is not None:
                    self._copy(trial, twin)
                elif not self._is_refused(trial, genotype):
                    self._claimed[trial.number] = trial
                    self._heartbeat.add(trial)
                    return ClaimedTrial(trial.number, genotype)
        return None

    def finish(self, claim: ClaimedTrial, metrics: Mapping[str, float], seconds: float) -> None:
        """Record the metrics of a network.

        Args:
            claim: the network.
            metrics: all metrics of the goal, and others.
            seconds: duration of its evaluation, in s.
        """
        missing = [name for name in self.goal.metrics if name not in metrics]
        if missing:
            self.fail(claim, f"its evaluation gave no {', '.join(missing)}", seconds)
            return
        with self._turn.held():
            trial = self._unfinished(claim)
            if trial is not None:
                trial.set_user_attr(SECONDS, seconds)
                self._describe(trial, metrics)
                self.study.tell(trial, self.goal.values(metrics))

    def fail(self, claim: ClaimedTrial, error: str, seconds: float) -> None:
        """Record that a network could not be evaluated.

        Args:
            claim: the network.
            error: reason of the failure.
            seconds: duration until the failure, in s.
        """
        with self._turn.held():
            trial = self._unfinished(claim)
            if trial is not None:
                self._tell_failure(trial, error, seconds)

    def spent(self) -> int:
        """Return the number of networks that use the budget: evaluated, failed, or running."""
        return sum(map(_spends, self._trials()))

    def in_work(self) -> int:
        """Return the number of networks that are being evaluated."""
        return sum(TrialStatus.of(trial) is TrialStatus.RUNNING for trial in self._trials())

    def _trials(self) -> Sequence[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _next(self) -> Trial | Literal["later"] | None:
        """Return a trial that an ended process has left, or a new one.

        Returns:
            ``"later"`` for a while after proposals of networks that are being evaluated, a time
            that doubles with each; ``None`` if no further network may be proposed.
        """
        for trial in self._trials():
            if not trial.state.is_finished() and trial.user_attrs.get(WORKER) == _FREE:
                return self._taken_over(trial)
        if sum(TWIN_OF not in trial.user_attrs for trial in self._trials()) >= self._most:
            return None
        if time.monotonic() < self._ask_again_s:
            return "later"
        new = self.study.ask(distributions(self.space))
        new.set_user_attr(WORKER, self._worker)
        return new

    def _taken_over(self, left: FrozenTrial) -> Trial:
        """Return the trial of an ended process, with the genes that it would have drawn."""
        trial = Trial(self.study, left._trial_id)
        trial.set_user_attr(WORKER, self._worker)
        if self.space.genes.keys() <= left.params.keys():
            return trial
        for name, distribution in distributions(self.space).items():
            assert isinstance(distribution, CategoricalDistribution)
            drawn_alone = not distribution.single() and name not in trial.relative_params
            if name in left.params and drawn_alone:  # genes of a trial share one random stream
                self.study.sampler.sample_independent(self.study, left, name, distribution)
            trial.suggest_categorical(name, distribution.choices)
        return trial

    def _release_ended(self) -> None:
        """Release the trials whose process has ended; fail those with too many ended processes."""
        for left in self._trials():
            worker = left.user_attrs.get(WORKER)
            if left.state.is_finished() or worker in (self._worker, _FREE):
                continue
            if not self._has_ended(left, worker):
                continue
            trial, ended = Trial(self.study, left._trial_id), left.user_attrs.get(ENDED, 0) + 1
            if worker is not None:
                trial.set_user_attr(ENDED, ended)
            if worker is not None and ended >= _MOST_ENDED:
                error = f"WorkerDied: {ended} processes were killed while they evaluated it"
                self._tell_failure(trial, f"{error}, perhaps because memory ran out", 0.0)
            else:
                trial.set_user_attr(WORKER, _FREE)

    def _has_ended(self, trial: FrozenTrial, worker: str | None) -> bool:
        """Return whether the process of an unfinished trial has ended.

        A living process holds a lock, which is visible only to processes with the same folder.
        """
        if worker is None:  # its process has created the trial and not yet written its name
            since = self._unnamed.setdefault(trial.number, time.monotonic())
            asked_s = time.monotonic() - since
            silent = asked_s >= _ASKING.total_seconds() or age_of(trial) > _SILENT
            return silent if self._elsewhere else True
        lock = FileLock(self._locks / worker)
        if not lock.path.exists():
            return worker.startswith(self._home) or age_of(trial) > _SILENT
        if not lock.acquire(wait=False):
            return False
        lock.release()
        lock.path.unlink(missing_ok=True)
        return True

    def _twin(self, number: int, genotype: Genotype) -> FrozenTrial | None:
        """Return another trial of the same network that is finished, or being evaluated.

        A process that is still choosing has written only some genes: its trial does not count yet.
        """
        genes = self.space.genes.keys()
        for trial in self._trials():
            if trial.number == number or TrialStatus.of(trial) is TrialStatus.LOST:
                continue
            if not genes <= trial.params.keys():
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
        """Return whether a network breaks a counted constraint, or cannot be built."""
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
        """Store metrics and violations; constraints on unknown metrics are not broken yet."""
        trial.set_user_attr(METRICS_ATTRIBUTE, dict(metrics))
        trial.set_user_attr(VIOLATIONS_ATTRIBUTE, [*self.goal.known_violations(metrics)])

    def _tell_failure(self, trial: Trial, error: str, seconds: float) -> None:
        trial.set_user_attr(SECONDS, seconds)
        trial.set_user_attr(ERROR, error)
        self.study.tell(trial.number, state=TrialState.FAIL)

    def _unfinished(self, claim: ClaimedTrial) -> Trial | None:
        """Return the trial of a claim; ``None`` if another process has finished it."""
        trial = self._claimed.pop(claim.number)
        self._heartbeat.remove(trial)
        return None if self._trials()[claim.number].state.is_finished() else trial


def _spends(trial: FrozenTrial) -> bool:
    """Return whether a trial uses the budget; a network that cannot be counted does not."""
    if COPY_OF in trial.user_attrs:
        return False
    status = TrialStatus.of(trial)
    failed = status is TrialStatus.FAILED and SECONDS in trial.user_attrs
    return failed or status in (TrialStatus.EVALUATED, TrialStatus.RUNNING)
