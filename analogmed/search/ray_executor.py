"""Networks evaluated by Ray: on this machine, or on a cluster."""

from pathlib import Path
from typing import Any

import torch

from analogmed.config import EngineConfig
from analogmed.evaluation.ray_engine import connect
from analogmed.search.evaluator import Evaluator
from analogmed.search.executors import MakeEvaluator, Outcome, evaluated
from analogmed.search.ledger import Claim

RETRIES = 1

_evaluators: dict[str, Evaluator] = {}
"""What a process of Ray has made, by the search; Ray gives it one network after the other."""


class RayExecutor:
    """Each network is a task of Ray, which places it, and does it once more if its process dies.

    The machines need analogmed, and must see data and run folder under the same paths; the study is
    written by the process that this is in.

    Args:
        engine: cores and GPUs of a network, and how many networks at once.
        make_evaluator: called once in each process.

    Raises:
        ConfigError: Ray is not installed, its cluster does not answer, or has not what a network
            needs.
    """

    def __init__(self, engine: EngineConfig, make_evaluator: MakeEvaluator) -> None:
        self._ray, self._ours = connect(engine)
        has = self._ray.cluster_resources()
        room = [has.get("CPU", 0) / engine.cpus]
        room += [has.get("GPU", 0) / engine.gpus] if engine.gpus else []
        self.slots = engine.workers or max(1, int(min(room)))
        task = self._ray.remote(
            num_cpus=engine.cpus, num_gpus=engine.gpus, max_retries=RETRIES, max_calls=0
        )
        self._compute = task(compute)
        self._job = self._ray.put(make_evaluator)
        self._running: dict[Any, Claim] = {}

    def submit(self, claim: Claim, folder: Path) -> None:
        """Take a network on."""
        reference = self._compute.remote(self._job, claim, folder.absolute())
        self._running[reference] = claim

    def next(self) -> Outcome:
        """Wait for one that is done."""
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        claim = self._running.pop(done[0])
        try:
            outcome: Outcome = self._ray.get(done[0])
        except self._ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            return Outcome(claim, failure=f"WorkerDied: {type(error).__name__}: {first}")
        return outcome

    def close(self) -> None:
        """Stop what is still in work, and a Ray that was started here."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        if self._ours:
            self._ray.shutdown()


def compute(make_evaluator: MakeEvaluator, claim: Claim, folder: Path) -> Outcome:
    """Evaluate a network in a process of Ray.

    Args:
        make_evaluator: makes the evaluator of the search.
        claim: the network.
        folder: for what is to be kept.
    """
    torch.set_num_threads(1)  # trainings set their own number
    name = repr(make_evaluator)
    if name not in _evaluators:
        _evaluators.clear()
        _evaluators[name] = make_evaluator()
    return evaluated(_evaluators[name], claim, folder)
