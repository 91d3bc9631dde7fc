"""Heartbeats that a process writes into the trials that it evaluates."""

import logging
import threading
import time
from datetime import datetime, timedelta

from optuna.trial import FrozenTrial, Trial

BEAT = "alive_at_s"
"""Attribute of a trial: last heartbeat of its process, in s since 1970-01-01 UTC."""

PERIOD_S = 600.0
"""Time between two heartbeats, in s."""


class Heartbeat:
    """Thread that writes the time into trials, for processes that cannot see this one's lock.

    A storage that does not respond is tried again in the next period.
    """

    def __init__(self) -> None:
        self._trials: dict[int, Trial] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; it ends with the process."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def add(self, trial: Trial) -> None:
        """Write the time into a trial, now and in each period."""
        if self._thread is not None:
            trial.set_user_attr(BEAT, time.time())
            with self._lock:
                self._trials[trial.number] = trial

    def remove(self, trial: Trial) -> None:
        """Stop writing into a trial."""
        with self._lock:
            self._trials.pop(trial.number, None)

    def _run(self) -> None:
        while not self._stopped.wait(PERIOD_S):
            self._beat()

    def _beat(self) -> None:
        with self._lock:  # held while writing, so that no trial is written after it has ended
            for trial in self._trials.values():
                try:
                    trial.set_user_attr(BEAT, time.time())
                except Exception as error:
                    _logger.warning("trial %d: no heartbeat (%s)", trial.number, error)


def age_of(trial: FrozenTrial) -> timedelta:
    """Return the time since the last heartbeat of a trial's process."""
    if BEAT in trial.user_attrs:
        return timedelta(seconds=time.time() - trial.user_attrs[BEAT])
    return datetime.now() - (trial.datetime_start or datetime.now())


_logger = logging.getLogger("analogmed.search")
