"""Runs the trials of a search on the machines of a Ray cluster.

The search itself stores the results: a machine of the cluster receives a recipe and returns its result.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Union

from edgetl import __version__
from edgetl.errors import EdgetlError, MissingExtraError, OptionError
from edgetl.pipeline.search.space import Recipe
from edgetl.pipeline.search.trial import Keep, TrialResult, Trials, Wait

TRIAL_CPUS = 4
"""CPUs per trial, if a machine has that many: a large machine runs several trials at once."""

_CONNECT_TIMEOUT_S = 10.0
_CLIENT = "ray://"


@contextmanager
def connect(address: str, trials: Trials, keep: Keep) -> Iterator[Cluster]:
    """Connect to the Ray cluster at HOST:PORT, or to the one on this machine for "auto", while the block runs.

    If the cluster requires a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN for Ray. `keep` is called with each
    result as it arrives.

    Raises:
        MissingExtraError: Ray is not installed.
        OptionError: no Ray cluster answers, or it has no CPUs.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "a search on a cluster") from error
    _require_reachable(address)
    try:
        ray.init(address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _unreachable(address, error) from error
    try:
        yield Cluster(ray, address, trials, keep)
    finally:
        ray.shutdown()


class Cluster:
    """Runs trials on the machines of a cluster; `at_once` of them at the same time."""

    def __init__(self, ray: ModuleType, address: str, trials: Trials, keep: Keep) -> None:
        cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        each = min(TRIAL_CPUS, max(cpus, default=0))
        if not each:
            raise OptionError(f"the Ray cluster at {address} has no CPUs; add machines: ray start --address={address}")
        self.at_once = sum(count // each for count in cpus)
        self._ray, self._keep = ray, keep
        self._run = partial(
            ray.remote(_run).options(num_cpus=each).remote, ray.put(trials.for_another_process(each)), each
        )
        self._running: dict[Any, Recipe] = {}
        self._finished: dict[Recipe, TrialResult] = {}

    def start(self, recipe: Recipe) -> Wait:
        """Submit a trial to the cluster; the returned function waits for its result."""
        self._running[self._run(_absolute(recipe), __version__)] = recipe
        return partial(self._wait, recipe)

    def _wait(self, recipe: Recipe) -> TrialResult:
        while recipe not in self._finished:
            (first, *_), _ = self._ray.wait(list(self._running))
            done, result = self._running.pop(first), self._receive(first)
            self._keep(done, result)
            self._finished[done] = result
        return self._finished.pop(recipe)

    def _receive(self, trial: Any) -> TrialResult:
        try:
            machine, result = self._ray.get(trial)
        except self._ray.exceptions.RayError as error:
            cause = str(getattr(error, "cause", None) or error).strip().splitlines()[0]
            needed = f"every machine needs edgetl {__version__} with [host,tflite]"
            raise OptionError(f"the Ray cluster cannot run a trial: {cause}; {needed}") from error
        if not isinstance(result, TrialResult):
            raise OptionError(f"{machine}, a machine of the Ray cluster, cannot run a trial: {result}")
        return result


def _run(trials: Trials, cpus: int, recipe: Recipe, version: str) -> tuple[str, Union[TrialResult, str]]:
    """Runs on a machine of the cluster: returns its name, and the result or an error message.

    Errors are returned as text, because those with fields cannot be pickled.
    """
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(cpus)
    machine = socket.gethostname()
    if version != __version__:
        return machine, f"it has edgetl {__version__}, but the search runs {version}; install the same version"
    for path in (trials.source, recipe.weights):
        if not path.exists():
            return machine, f"{path} does not exist; photos and weights must be at the same path on every machine"
    try:
        return machine, trials.run(recipe)
    except EdgetlError as error:
        return machine, str(error)


def _absolute(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths, for a process in another folder."""
    backbone = Path(recipe.backbone)
    named = str(backbone.absolute()) if backbone.exists() else recipe.backbone
    return replace(recipe, backbone=named, weights=recipe.weights.absolute())


def _require_reachable(address: str) -> None:
    """Fail after seconds where Ray itself would retry for minutes."""
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if not host or not port.isdecimal():
        return  # e.g. "auto", or an address that Ray refuses at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> OptionError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return OptionError(
        f"no Ray cluster at {address}: {reason}. Start one with ray start --head, and use --ray HOST:6379; "
        "if it requires a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    )
