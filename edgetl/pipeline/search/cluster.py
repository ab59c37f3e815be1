"""Hides Ray: runs the trials of a search on the machines of a cluster; the search calls it, for --ray.

The records stay with the search: a machine of the cluster is given a recipe, and gives an outcome back.
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
from edgetl.pipeline.search.trial import Keep, Outcome, Trials, Wait

TRIAL_CPUS = 4
"""CPUs of a trial, where a machine has so many: several trials on a large machine, instead of one on all of it."""

_REACHED_WITHIN_S = 10.0
_CLIENT = "ray://"


@contextmanager
def connect(address: str, trials: Trials, keep: Keep) -> Iterator[Cluster]:
    """The Ray cluster at HOST:PORT, or "auto" for the one that runs here, for as long as the block lasts.

    Where it asks for a token, Ray finds it by RAY_AUTH_MODE=token and RAY_AUTH_TOKEN. `keep` is
    told of each outcome as it comes. Raises MissingExtraError, and OptionError where no Ray answers.
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
    """The machines of a cluster; `at_once` is how many trials run at the same time."""

    def __init__(self, ray: ModuleType, address: str, trials: Trials, keep: Keep) -> None:
        cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        each = min(TRIAL_CPUS, max(cpus, default=0))
        if not each:
            raise OptionError(f"the Ray cluster at {address} has no CPUs; add machines: ray start --address={address}")
        self.at_once = sum(count // each for count in cpus)
        self._ray, self._keep = ray, keep
        self._run = partial(ray.remote(_run).options(num_cpus=each).remote, ray.put(trials.elsewhere(each)), each)
        self._under_way: dict[Any, Recipe] = {}
        self._finished: dict[Recipe, Outcome] = {}

    def begin(self, recipe: Recipe) -> Wait:
        """Hands a trial to the cluster; what comes back waits for its outcome."""
        self._under_way[self._run(_absolute(recipe), __version__)] = recipe
        return partial(self._wait, recipe)

    def _wait(self, recipe: Recipe) -> Outcome:
        while recipe not in self._finished:
            (first, *_), _ = self._ray.wait(list(self._under_way))
            done, outcome = self._under_way.pop(first), self._receive(first)
            self._keep(done, outcome)
            self._finished[done] = outcome
        return self._finished.pop(recipe)

    def _receive(self, trial: Any) -> Outcome:
        try:
            machine, result = self._ray.get(trial)
        except self._ray.exceptions.RayError as error:
            cause = str(getattr(error, "cause", None) or error).strip().splitlines()[0]
            needed = f"every machine needs edgetl {__version__} with [host,tflite]"
            raise OptionError(f"the Ray cluster cannot run a trial: {cause}; {needed}") from error
        if isinstance(result, str):
            raise OptionError(f"{machine}, a machine of the Ray cluster, cannot run a trial: {result}")
        return result


def _run(trials: Trials, cpus: int, recipe: Recipe, version: str) -> tuple[str, Union[Outcome, str]]:
    """On a machine of the cluster: its name, and the outcome, or why it cannot; errors with fields do not travel."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(cpus)
    machine = socket.gethostname()
    if version != __version__:
        return machine, f"it has edgetl {__version__}, the search {version}; install the same"
    for path in (trials.source, recipe.weights):
        if not path.exists():
            return machine, f"{path} is not there; photos and weights must lie at the same path on every machine"
    try:
        return machine, trials.run(recipe)
    except EdgetlError as error:
        return machine, str(error)


def _absolute(recipe: Recipe) -> Recipe:
    """The same recipe for a process in another folder."""
    backbone = Path(recipe.backbone)
    named = str(backbone.absolute()) if backbone.exists() else recipe.backbone
    return replace(recipe, backbone=named, weights=recipe.weights.absolute())


def _require_reachable(address: str) -> None:
    """Ray itself goes on trying for minutes."""
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if not host or not port.isdecimal():
        return  # "auto" and the like, or what Ray refuses at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACHED_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> OptionError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return OptionError(
        f"no Ray cluster at {address}: {reason}. Start one: ray start --head; then --ray HOST:6379, "
        "with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN set where it asks for a token"
    )
