"""What a search can try: backbones whose weights are at hand, at sizes that may fit the budget."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from edgetl.backbones import Spec, file_digest, find_weights, get_backbone, list_backbones
from edgetl.conversion import PruningOptions
from edgetl.conversion.memory_estimate import least_ram
from edgetl.errors import EdgetlError, WeightsError
from edgetl.pipeline.budget import Budget, Excess
from edgetl.pipeline.edgetpu import require_suitable
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.search.options import SearchOptions
from edgetl.targets import Target
from edgetl.workload import Workload


@dataclass(frozen=True)
class Recipe:
    """What one trial tries: the part of a build's options that a search chooses.

    `epochs` of 0 is stage 1 alone; `pruned` the share of the multiply-accumulates that goes after fine-tuning.
    `macs` are those expected of the backbone before pruning.
    """

    backbone: str
    input_size: int
    weights: Path
    macs: int
    epochs: int = 0
    pruned: float = 0.0

    @property
    def name(self) -> str:
        """What people call it: "mobilenet-v2-0.35 at 160, 10 epochs, half pruned" and the like."""
        parts = [f"{Path(self.backbone).name} at {self.input_size}"]
        parts += [f"{self.epochs} epochs"] if self.epochs else []
        parts += [f"{self.pruned:.0%} pruned"] if self.pruned else []
        return ", ".join(parts)

    @functools.cached_property
    def weights_digest(self) -> str:
        """SHA-256 of the weights file, in hex."""
        return file_digest(self.weights)

    def build_options(self, common: BuildOptions) -> BuildOptions:
        """The options of the build that gives just this model."""
        return replace(
            common,
            backbone=self.backbone,
            input_size=self.input_size,
            weights=self.weights,
            fine_tune=self.epochs or "off",
            pruning=(common.pruning or PruningOptions(self.pruned)) if self.pruned else None,
        )


class Space:
    """The recipes of stage 1 that a board, a budget and the weights at hand allow.

    `skipped` says what is not, and `excesses` what of it is over the budget. Where the user fixed the backbone or the
    pruning, what fits only once it is pruned is among the recipes.
    """

    def __init__(self, board: Target, budget: Budget, options: SearchOptions) -> None:
        self._board, self._budget, self._options = board, budget, options
        self._found: dict[str, list[tuple[Recipe, Spec]]] = {}
        self.skipped: list[str] = []
        self.excesses: dict[str, Excess] = {}

    def backbones(self) -> list[Recipe]:
        """Each backbone at the largest of its input sizes that may fit, in the order in which time is spent on them.

        First the board's own, which a build without a search takes; then those that no other beats in published
        accuracy and multiply-accumulates, then the others; the cheapest first, so that many are tried where there is
        no time for all. Raises EdgetlError where the user fixed the backbone, and it cannot be used.
        """
        fixed = self._options.build.backbone
        names = (fixed,) if fixed else self._options.backbones or [spec.name for spec in list_backbones()]
        found = [(recipe, spec) for name in names for recipe, spec in self._recipes(name)[:1]]
        found.sort(key=lambda pair: (pair[0].macs, pair[0].name))
        front = [pair for pair in found if not any(_beats(other, pair) for other in found)]
        order = [recipe for recipe, _ in front + [pair for pair in found if pair not in front]]
        return sorted(order, key=lambda recipe: recipe.backbone != self._board.backbone)

    def other_sizes(self, recipe: Recipe) -> list[Recipe]:
        """The same backbone at its smaller input sizes."""
        return [other for other, _ in self._recipes(recipe.backbone) if other.input_size < recipe.input_size]

    def _recipes(self, name: str) -> list[tuple[Recipe, Spec]]:
        """What may fit of a backbone, the largest input first; of one of many nothing where something is missing."""
        if name not in self._found:
            self._found[name] = []
            try:
                self._found[name] = self._look_up(name)
            except EdgetlError as error:
                if name == self._options.build.backbone:
                    raise
                self.skipped.append(f"{name}: {str(error).split('. ')[0]}")
        return self._found[name]

    def _look_up(self, name: str) -> list[tuple[Recipe, Spec]]:
        require_suitable(name, self._board)
        spec = get_backbone(name, self._options.build.normalization)
        sizes = self._sizes(spec)
        excesses = {size: self._excess(spec, size) for size in sizes}
        fitting = [size for size in sizes if excesses[size] is None]
        if not fitting and (least := excesses[sizes[-1]]):
            smallest = f"{name} at {sizes[-1]}{f', {self._pruned:.0%} pruned' if self._pruned else ''}"
            self.excesses[smallest] = least
            self.skipped.append(f"{smallest}: {least.text}")
        return [(self._recipe(name, spec, size), spec) for size in fitting]

    def _sizes(self, spec: Spec) -> list[int]:
        """The input sizes to try, the largest first."""
        if self._options.build.input_size is not None:
            return [spec.input_size(self._options.build.input_size)]
        own = spec.input_sizes[0]
        return sorted({own, *(size for size in self._options.input_sizes if size < own)}, reverse=True)

    def _excess(self, spec: Spec, size: int) -> Optional[Excess]:
        """What is known beforehand: work, and that a weight takes a byte at least."""
        whole, kept = spec.workload(size), 1 - self._pruned
        counts = (whole.macs, whole.depthwise_macs, whole.parameters)
        work = Workload(*(round(kept * count) for count in counts))
        latency = self._board.estimate_latency(work)
        return self._budget.excess(latency, work.parameters, least_ram(work.parameters))

    @property
    def _pruned(self) -> float:
        """The most that pruning takes, where a user who fixed the backbone or the pruning waits for what fits then."""
        build = self._options.build
        is_awaited = build.backbone is not None or build.pruning is not None
        return max(self._options.shares, default=0.0) if is_awaited else 0.0

    def _recipe(self, name: str, spec: Spec, size: int) -> Recipe:
        return Recipe(name, size, self._weights(spec, size), spec.workload(size).macs)

    def _weights(self, spec: Spec, size: int) -> Path:
        given = self._options.build.weights
        return find_weights(spec, size, given) if given else _find_weights(spec, size, self._options.weights)


def _find_weights(spec: Spec, size: int, folder: Optional[Path]) -> Path:
    """Those that were published for this size, else those of the default size, which do nearly as well."""
    own = spec.input_sizes[0]
    named = [folder / spec.weights.filename.format(size=published) for published in (size, own)] if folder else []
    for path in named:
        if path.is_file():
            return path
    try:
        return find_weights(spec, size)
    except WeightsError:
        if size == own:
            raise
        return find_weights(spec, own)


def _beats(one: tuple[Recipe, Spec], other: tuple[Recipe, Spec]) -> bool:
    """Whether a published accuracy is higher for less work."""
    if one[1].top1 is None or other[1].top1 is None:
        return False
    return one[1].top1 >= other[1].top1 and one[0].macs < other[0].macs
