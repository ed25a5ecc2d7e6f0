"""The Ray engine: cases on the machines of a cluster.

1. Weights are loaded once, here, and put into Ray's object store, from which each node fetches them once; a worker
   builds the network by its name and fills them in. Files of one's own and images must be on all nodes, at the paths of
   the plan.
2. Each case is a task that asks for processors and GPUs. Ray runs it again elsewhere when its node is lost; what Ray
   gives up is submitted anew, a few times, and then recorded as failed.
3. Results come back here and are written by this process alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurochains.errors import SettingsError
from neurochains.studies.engine import Job, Result, lost
from neurochains.studies.libraries import import_extra

__all__ = ["RayEngine"]

RETRIES = 3
ATTEMPTS = 3
_runners: dict[tuple[str, str], Any] = {}  # of this process, where it is a worker of Ray


class RayEngine:
    """Runs jobs on a Ray cluster.

    Args:
        root: the folder that relative paths in a plan start from.
        address: of the cluster, such as ``"ray://head:10001"`` or ``"auto"``; None for the one that is connected, or a
            new one on this machine.
        cpus: for each case.
        gpus: for each case.
        device: where networks run; by default on the GPU where a case has any.

    Raises:
        SettingsError: Ray is not installed, cannot be reached, or a case would ask for nothing.
    """

    def __init__(
        self, root: Path, *, address: str | None = None, cpus: float = 1.0, gpus: float = 0.0, device: str | None = None
    ) -> None:
        if cpus < 0 or gpus < 0 or cpus + gpus <= 0:
            raise SettingsError(f"A case needs processors or GPUs; got cpus={cpus} and gpus={gpus}.")
        self._ray = import_extra("ray", purpose="engine='ray' needs")
        self._ours = _connect(self._ray, address)
        self._needs = {"CPU": cpus, "GPU": gpus}
        self._root = str(root.absolute())
        self._device = device or ("cuda" if gpus else "")
        self._remote = self._ray.remote(_run).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
        self._weights: dict[str, Any] = {}
        self._jobs: dict[Any, tuple[Job, int]] = {}

    @property
    def capacity(self) -> int:
        """How many cases the cluster has room for now, at least one."""
        there = self._ray.cluster_resources()
        room = [there.get(name, 0.0) / need for name, need in self._needs.items() if need]
        return max(1, int(min(room)))

    def submit(self, job: Job, *, attempt: int = 1) -> None:
        """Hand a job to the cluster."""
        model = job["spec"]["model"]
        weights = {} if "planted" in model else {model["name"]: self._put(model)}
        self._jobs[self._remote.remote(json.dumps(job), self._root, self._device, weights)] = (job, attempt)

    def collect(self, timeout: float) -> list[Result]:
        """Return results, as soon as there is one, or none after so many seconds."""
        if not self._jobs:
            return []
        ready, _ = self._ray.wait(list(self._jobs), num_returns=1, timeout=timeout)
        found = []
        for reference in ready:
            job, attempt = self._jobs.pop(reference)
            try:
                found.append(json.loads(self._ray.get(reference)))
            except self._ray.exceptions.RayError as error:
                if attempt < ATTEMPTS:
                    self.submit(job, attempt=attempt + 1)
                else:
                    found.append(lost(job, f"The cluster lost the case {attempt} times: {error}"[:2000]))
        return found

    def stop(self) -> None:
        """Cancel what still runs; leave a cluster that was made here."""
        for reference in self._jobs:
            self._ray.cancel(reference, force=True)
        self._jobs.clear()
        self._weights.clear()
        if self._ours:
            self._ray.shutdown()

    def _put(self, model: Mapping[str, Any]) -> Any:
        """Return where the weights of a model are in the object store: a list, so that Ray does not unpack it."""
        if model["name"] not in self._weights:
            self._weights[model["name"]] = [self._ray.put(_load(model, Path(self._root)))]
        return self._weights[model["name"]]


def _connect(ray: Any, address: str | None) -> bool:
    """Connect to a cluster; return whether it was done here, and is to be undone."""
    if ray.is_initialized() and address is None:
        return False
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, ignore_reinit_error=True)
    except Exception as error:  # Ray raises Exception itself where a node does not start
        raise SettingsError(
            f"The Ray cluster {address or 'on this machine'} cannot be reached: {error}. "
            "Start it with: ray start --head."
        ) from error
    return True


def _load(model: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return the weights of a model as arrays, which all workers of a node read from one place."""
    from neurochains.studies.runner import load_entry

    return {name: value.cpu().numpy() for name, value in load_entry(model, root).state_dict().items()}


def _run(job: str, root: str, device: str, weights: Mapping[str, Any]) -> str:
    """Run a job in a worker of Ray, which keeps its runner."""
    import ray
    import torch

    from neurochains.studies.runner import Runner

    def fetched(name: str) -> dict[str, Any] | None:
        if name not in weights:
            return None
        arrays: Any = ray.get(weights[name][0])
        return {key: torch.tensor(value) for key, value in arrays.items()}

    torch.set_num_threads(1)
    if (root, device) not in _runners:
        _runners[root, device] = Runner(Path(root), device=device or None)
    runner = _runners[root, device]
    runner.weights = fetched
    return json.dumps(runner.run(json.loads(job)), allow_nan=False)
