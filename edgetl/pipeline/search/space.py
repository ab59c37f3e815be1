"""What a search can try: backbones whose weights are available, at input sizes that may fit the budget."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from edgetl.backbones import Spec, file_digest, find_weights, get_backbone, list_backbones
from edgetl.conversion import PruningOptions, least_ram
from edgetl.errors import EdgetlError, WeightsError
from edgetl.pipeline.budget import Budget, Excess
from edgetl.pipeline.edgetpu import require_suitable
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.search.options import SearchOptions
from edgetl.targets import Target
from edgetl.workload import Workload


@dataclass(frozen=True)
class Recipe:
    """What one trial tries: the build options that a search chooses.

    `epochs` is 0 for stage 1 alone. `pruned` is the share (0..1) of the multiply-accumulates that is removed after
    fine-tuning, and `macs` the expected multiply-accumulates before that.
    """

    backbone: str
    input_size: int
    weights: Path
    macs: int
    epochs: int = 0
    pruned: float = 0.0

    @property
    def name(self) -> str:
        """A name for people, e.g. "mobilenet-v2-0.35 at 160, 10 epochs, 50% pruned"."""
        parts = [f"{Path(self.backbone).name} at {self.input_size}"]
        parts += [f"{self.epochs} epochs"] if self.epochs else []
        parts += [f"{self.pruned:.0%} pruned"] if self.pruned else []
        return ", ".join(parts)

    @functools.cached_property
    def weights_digest(self) -> str:
        """SHA-256 of the weights file, in hex."""
        return file_digest(self.weights)

    def build_options(self, common: BuildOptions) -> BuildOptions:
        """The options of a build that makes this model."""
        return replace(
            common,
            backbone=self.backbone,
            input_size=self.input_size,
            weights=self.weights,
            fine_tune=self.epochs or "off",
            pruning=(common.pruning or PruningOptions(self.pruned)) if self.pruned else None,
        )


class Space:
    """The recipes of stage 1 that the board, the budget and the available weights allow.

    `skipped` has one line for each backbone that is left out; `excesses` says how far those exceed the budget that
    are too large. If the user fixed the backbone or the pruning, recipes that fit only after pruning are included.
    """

    def __init__(self, board: Target, budget: Budget, options: SearchOptions) -> None:
        self._board, self._budget, self._options = board, budget, options
        self._found: dict[str, list[tuple[Recipe, Spec]]] = {}
        self.skipped: list[str] = []
        self.excesses: dict[str, Excess] = {}

    def backbones(self) -> list[Recipe]:
        """Each backbone at the largest of its input sizes that may fit, in the order in which to try them.

        The board's default backbone comes first; then those that no other beats in both published accuracy and
        multiply-accumulates, and then the others. Cheaper ones come first, so that many are tried if time is short.

        Raises:
            EdgetlError: the user fixed the backbone, and it cannot be used.
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
        """The recipes of a backbone that may fit, the largest input first; none if it cannot be used.

        Raises EdgetlError instead if the user fixed the backbone.
        """
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
            smallest = f"{name} at {sizes[-1]}{f', {self._pruned_share:.0%} pruned' if self._pruned_share else ''}"
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
        """How far the model exceeds the budget at least: its work, and one byte per weight, are known in advance."""
        whole, kept = spec.workload(size), 1 - self._pruned_share
        counts = (whole.macs, whole.depthwise_macs, whole.parameters)
        work = Workload(*(round(kept * count) for count in counts))
        latency = self._board.estimate_latency(work)
        return self._budget.excess(latency, work.parameters, least_ram(work.parameters))

    @property
    def _pruned_share(self) -> float:
        """The largest share that may be pruned, if the user fixed the backbone or the pruning; otherwise 0."""
        build = self._options.build
        counts_on_pruning = build.backbone is not None or build.pruning is not None
        return max(self._options.shares, default=0.0) if counts_on_pruning else 0.0

    def _recipe(self, name: str, spec: Spec, size: int) -> Recipe:
        return Recipe(name, size, self._weights(spec, size), spec.workload(size).macs)

    def _weights(self, spec: Spec, size: int) -> Path:
        path = self._options.build.weights
        return find_weights(spec, size, path) if path else _find_weights(spec, size, self._options.weights)


def _find_weights(spec: Spec, size: int, folder: Optional[Path]) -> Path:
    """The weights published for this size, or those for the default size, which are nearly as good."""
    own = spec.input_sizes[0]
    expected = [folder / spec.weights.filename.format(size=published) for published in (size, own)] if folder else []
    for path in expected:
        if path.is_file():
            return path
    try:
        return find_weights(spec, size)
    except WeightsError:
        if size == own:
            raise
        return find_weights(spec, own)


def _beats(one: tuple[Recipe, Spec], other: tuple[Recipe, Spec]) -> bool:
    """Whether `one` has at least the published accuracy of `other` with fewer multiply-accumulates."""
    if one[1].top1 is None or other[1].top1 is None:
        return False
    return one[1].top1 >= other[1].top1 and one[0].macs < other[0].macs
