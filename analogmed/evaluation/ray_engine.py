"""Units computed by Ray: on this machine, or on a cluster of machines with CPUs and GPUs."""

import math
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from analogmed.config import EngineConfig, Experiment
from analogmed.evaluation.plan import PlannedUnit, threads_of
from analogmed.evaluation.store import Store
from analogmed.evaluation.worker import CONCERNS_ALL, Outcome, Worker
from analogmed.foundation.errors import ConfigError

RETRIES = 1

_workers: dict[str, Worker] = {}
"""What a process of Ray has loaded, by the experiment; Ray gives it one unit after the other.

A worker compares its data and code with those of each unit, so that none of it outlives a change.
"""


class RayEngine:
    """Each unit is a task of Ray, which places it, and computes it once more if its process dies.

    The machines need analogmed, and must see data, checkpoints and store under the same paths.

    Args:
        experiment: all settings.
        store: where results go.

    Raises:
        ConfigError: Ray is not installed, its cluster does not answer, or has not what a unit
            needs.
    """

    def __init__(self, experiment: Experiment, store: Store) -> None:
        self._engine = engine = experiment.engine
        self._ray, self._ours = connect(engine)
        task = self._ray.remote(
            num_cpus=engine.cpus, num_gpus=engine.gpus, max_retries=RETRIES, max_calls=0
        )
        self._compute = task(compute)
        self._job = self._ray.put((experiment, store.url, threads_of(engine)))

    def run(
        self, units: Sequence[PlannedUnit], on_case: Callable[[PlannedUnit], object]
    ) -> Iterator[Outcome]:
        """What became of each unit, as they are done; single cases are not heard of."""
        waiting = list(reversed(units))
        running: dict[Any, PlannedUnit] = {}
        most = self._engine.workers or len(units)
        while waiting or running:
            while waiting and len(running) < most:
                unit = waiting.pop()
                running[self._compute.remote(self._job, unit)] = unit
            done, _ = self._ray.wait(list(running), num_returns=1)
            for reference in done:
                yield self._outcome(reference, running.pop(reference))

    def close(self) -> None:
        """Stop a Ray that was started here; a cluster goes on with what it has been given."""
        if self._ours:
            self._ray.shutdown()

    def _outcome(self, reference: Any, unit: PlannedUnit) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            return Outcome(unit, failure=f"WorkerDied: {type(error).__name__}: {first}")
        return outcome


def compute(job: tuple[Experiment, str, int], unit: PlannedUnit) -> Outcome:
    """Compute one unit in a process of Ray.

    Args:
        job: all settings, the store's URL, and threads to compute with.
        unit: which.
    """
    experiment, store, threads = job
    torch.set_num_threads(threads)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            name = repr((experiment, store))
            if name not in _workers:
                _workers.clear()
                _workers[name] = Worker(experiment, Store(store))
            outcome = _workers[name].compute(unit, lambda: None)
        except CONCERNS_ALL as error:
            outcome = Outcome(unit, stop=error)
    told = tuple(dict.fromkeys(str(warning.message) for warning in caught))
    return replace(outcome, warnings=told)


def connect(engine: EngineConfig) -> tuple[Any, bool]:
    """Ray itself, ready for units, and whether it was started here, to be shut down here.

    Raises:
        ConfigError: Ray is not installed, its cluster does not answer, or has not what a unit
            needs.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "engine ray needs the package ray; install it: pip install 'analogmed[ray]'"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        _start(ray, engine)
    _check_resources(ray, engine)
    return ray, ours


def _start(ray: Any, engine: EngineConfig) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if engine.address is None:
        settings |= {"address": "local", "include_dashboard": False}
        if engine.workers:
            settings["num_cpus"] = math.ceil(engine.workers * engine.cpus)
    else:
        settings["address"] = engine.address
    try:
        if engine.address is not None:
            _knock(engine.address)
        _init(ray, settings, tries=_LOCAL_STARTS if engine.address is None else 1)
    except Exception as error:  # Ray raises plain ones too
        where = "on this machine" if engine.address is None else f"at {engine.address}"
        raise ConfigError(
            f"engine.address {engine.address}: Ray does not answer {where}: {error}; start it with "
            "ray start, or compute with --engine.name local"
        ) from error


def _init(ray: Any, settings: dict[str, Any], tries: int) -> None:
    """Start, or join, Ray.

    A Ray that is started gives its own processes 15 s to report. On a busy machine they may need
    longer the first time; then their files lie in memory.
    """
    for left in reversed(range(tries)):
        try:
            ray.init(**settings)
            return
        except Exception:
            ray.shutdown()
            if not left:
                raise


_LOCAL_STARTS = 2


def _knock(address: str) -> None:
    """See that somebody listens there: Ray itself waits for minutes.

    Raises:
        OSError: nobody does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()


_PATIENCE_S = 10.0


def _check_resources(ray: Any, engine: EngineConfig) -> None:
    """Refuse units that fit on no machine of the cluster: Ray would wait for one for ever."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": engine.cpus, "GPU": engine.gpus}
    if not any(
        all(machine.get(name, 0) >= amount for name, amount in wanted.items())
        for machine in machines
    ):
        most = {name: max(machine.get(name, 0) for machine in machines) for name in wanted}
        raise ConfigError(
            f"a unit shall have {engine.cpus:g} CPUs and {engine.gpus:g} GPUs, but a machine of "
            f"Ray has at most {most['CPU']:g} and {most['GPU']:g}; change engine.cpus, engine.gpus"
        )
