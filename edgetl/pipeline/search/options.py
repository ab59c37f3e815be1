"""What a search may be told: where it looks, how much a model may take, and how long it may last."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from edgetl.backbones import SMALLEST_INPUT
from edgetl.errors import OptionError
from edgetl.pipeline.budget import Budget
from edgetl.pipeline.options import BuildOptions


@dataclass(frozen=True)
class SearchOptions:
    """Where a search looks and for how long.

    `backbones` are names or Keras files, all known ones for (); each is tried at its own input size and at those of
    `input_sizes` below; `epochs` are the lengths of fine-tuning, growing, that ever fewer candidates get; `prune`
    the shares of multiply-accumulates that are taken from the best at last. `weights` is a folder of weights files,
    beside the places where they are looked for anyway. `time_s` is for the trials, those of an interrupted run of
    the same search counted in. `ray` is the address of a Ray cluster to run them on, None for this process; of n
    trials at once each has that time. `build` holds what the final build does besides, and what is not the search's to
    choose: a backbone, with its weights, an input size, a length of fine-tuning ("auto" leaves it open) or a pruning
    that it gives is that of every model that can be picked. Its budget is that of the search.
    """

    budget: Budget = field(default_factory=Budget)
    time_s: float = 1200.0
    backbones: tuple[str, ...] = ()
    input_sizes: tuple[int, ...] = (96, 128, 160, 192, 224)
    epochs: tuple[int, ...] = (3, 10)
    prune: tuple[float, ...] = (0.5,)
    weights: Optional[Path] = None
    ray: Optional[str] = None
    build: BuildOptions = field(default_factory=BuildOptions)

    def __post_init__(self) -> None:
        if not self.time_s > 0:
            raise OptionError(f"time must be above 0, received {self.time_s:g} s; give such as 20m")
        if list(self.epochs) != sorted(set(self.epochs)) or any(epochs < 1 for epochs in self.epochs):
            raise OptionError(f"epochs must grow from 1 or more, received {', '.join(map(str, self.epochs))}")
        for share in self.prune:
            if not 0 < share < 1:
                raise OptionError(f"prune is {share}; choose more than 0 and less than 1, such as 0.5")
        if self.weights is not None and not self.weights.is_dir():
            raise OptionError(f"the weights folder {self.weights} does not exist; name a folder of weights files")
        for size in (*self.input_sizes, self.build.input_size or SMALLEST_INPUT):
            if size < SMALLEST_INPUT:
                raise OptionError(f"input size {size} is too small; backbones take {SMALLEST_INPUT} pixels or more")
        self._check_build()

    def _check_build(self) -> None:
        build = self.build
        if build.conversion.quantize != "int8":
            raise OptionError(
                f"a search is for int8, received {build.conversion.quantize}; leave --quantize or the limits out"
            )
        if build.weights is not None and build.backbone is None:
            raise OptionError("a weights file is that of one backbone; name it: --backbone")
        if build.normalization is not None and build.backbone is None and not self.backbones:
            raise OptionError("a normalization is that of one Keras file; name it: --backbone")
        if build.edgetpu_backbone is not None:
            raise OptionError("a compiled backbone leaves nothing to search; leave --edgetpu-backbone out")

    @property
    def is_length_fixed(self) -> bool:
        """Whether a number of epochs was given, so that only models that were trained for so long can be picked."""
        return isinstance(self.build.fine_tune, int)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The epochs of fine-tuning that are tried, growing."""
        if isinstance(self.build.fine_tune, int):
            return (self.build.fine_tune,)
        return () if self.build.fine_tune == "off" else self.epochs

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of multiply-accumulates that are taken; nothing is pruned unasked where training is off."""
        if self.build.pruning is not None:
            return (self.build.pruning.share,)
        return () if self.build.fine_tune == "off" else self.prune
