"""Execution by Ray: on this machine, or on a cluster of machines with CPUs and GPUs."""

import math
import socket
from collections.abc import Callable
from typing import Any

import torch

from analogmed.execution.compute import Compute, CreatedOnFirstUse, Outcome, evaluate
from analogmed.execution.settings import EngineConfig
from analogmed.foundation.errors import ConfigError

RETRIES = 1

_computes: dict[str, Compute] = {}
"""Computes of a Ray process by the ``repr`` of their factory, reused for its units.

A compute checks its data and code against those of each unit, so that no outdated one is used."""


class RayExecutor:
    """Executor with one Ray task per unit; Ray retries a unit once if its process dies.

    All machines require analogmed, and access to all files under the same paths.

    Args:
        engine: settings with cores and GPUs of a unit and the number of simultaneous units.
        make: factory of the compute, called once in each process.
        threads: number of torch's threads in each process.

    Raises:
        ConfigError: Ray is not installed, its cluster does not respond, or the cluster lacks the
            resources of a unit.
    """

    def __init__(self, engine: EngineConfig, make: Callable[[], Compute], threads: int) -> None:
        self._ray, self._started_here = connect(engine)
        has = self._ray.cluster_resources()
        room = [has.get("CPU", 0) / engine.cpus]
        room += [has.get("GPU", 0) / engine.gpus] if engine.gpus else []
        self.slots = engine.workers or max(1, int(min(room)))
        task = self._ray.remote(
            num_cpus=engine.cpus, num_gpus=engine.gpus, max_retries=RETRIES, max_calls=0
        )
        self._compute = task(compute_unit)
        self._job = self._ray.put((make, threads))
        self._running: dict[Any, Any] = {}

    def submit(self, unit: Any) -> None:
        """Accept a unit."""
        self._running[self._compute.remote(self._job, unit)] = unit

    def next(self) -> Outcome:
        """Wait for the next finished unit; single cases are not reported."""
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        unit = self._running.pop(done[0])
        try:
            outcome: Outcome = self._ray.get(done[0])
        except self._ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            return Outcome(unit, failure=f"WorkerDied: {type(error).__name__}: {first}")
        return outcome

    def close(self) -> None:
        """Stop running units, and Ray if it was started here."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        if self._started_here:
            self._ray.shutdown()


def compute_unit(job: tuple[Callable[[], Compute], int], unit: Any) -> Outcome:
    """Compute one unit in a process of Ray.

    Args:
        job: factory of the compute; number of torch's threads.
        unit: unit of work.
    """
    make, threads = job
    torch.set_num_threads(threads)
    return evaluate(CreatedOnFirstUse(make, _computes), unit)


def connect(engine: EngineConfig) -> tuple[Any, bool]:
    """Return Ray, ready for units, and whether it was started here and must be shut down here.

    Raises:
        ConfigError: Ray is not installed, its cluster does not respond, or the cluster lacks the
            resources of a unit.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "engine ray needs the package ray; install it: pip install 'analogmed[ray]'"
        ) from error
    started_here = not ray.is_initialized()
    if started_here:
        _start(ray, engine)
    _check_resources(ray, engine)
    return ray, started_here


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
            _check_reachable(engine.address)
        _init(ray, settings, tries=_LOCAL_STARTS if engine.address is None else 1)
    except Exception as error:  # Ray also raises plain exceptions
        where = "on this machine" if engine.address is None else f"at {engine.address}"
        raise ConfigError(
            f"engine.address {engine.address}: Ray does not answer {where}: {error}; start it with "
            "ray start, or compute with --engine.name local"
        ) from error


def _init(ray: Any, settings: dict[str, Any], tries: int) -> None:
    """Start Ray, or connect to it.

    When it starts, Ray waits 15 s for its own processes. On a busy machine they can take longer the
    first time; at the next try their files are in memory.
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


def _check_reachable(address: str) -> None:
    """Check that a process listens at an address, since Ray itself waits for minutes.

    Raises:
        OSError: no process listens at the address.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()


_CONNECT_TIMEOUT_S = 10.0


def _check_resources(ray: Any, engine: EngineConfig) -> None:
    """Raise a ConfigError for units that fit on no machine; Ray would wait forever."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": engine.cpus, "GPU": engine.gpus}
    if not any(
        all(machine.get(name, 0) >= amount for name, amount in wanted.items())
        for machine in machines
    ):
        most = {name: max(machine.get(name, 0) for machine in machines) for name in wanted}
        raise ConfigError(
            f"a unit needs {engine.cpus:g} CPUs and {engine.gpus:g} GPUs, but a machine of "
            f"Ray has at most {most['CPU']:g} and {most['GPU']:g}; change engine.cpus, engine.gpus"
        )
