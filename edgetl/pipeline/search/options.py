"""The options of a search: where it looks, the limits of the model, and the time."""

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
    """Where a search looks, and for how long.

    Attributes:
        budget: the limits of the model on the board.
        time_s: seconds for all trials, including those of an interrupted run of the same search. On a cluster that
            runs n trials at once, each of the n has this time.
        backbones: names or Keras files; all known backbones for ().
        input_sizes: pixels per side to try below a backbone's own input size.
        epochs: lengths of fine-tuning, increasing; fewer candidates go on to each.
        prune: shares (0..1) of the multiply-accumulates to remove from the best models at the end.
        weights: a folder of weights files, searched in addition to the usual places.
        ray: the address of a Ray cluster that runs the trials; None for this process.
        build: the other options of the final build. If it fixes the backbone and its weights, the input size, the
            number of epochs or the pruning, every model that can be picked has them. Its budget is ignored.

    Raises:
        OptionError: a value is out of range, or `build` asks for something that a search cannot do.
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
            raise OptionError(f"time must be greater than 0, received {self.time_s:g} s; expected e.g. 20m")
        if list(self.epochs) != sorted(set(self.epochs)) or any(epochs < 1 for epochs in self.epochs):
            raise OptionError(f"epochs must be increasing numbers from 1, received {', '.join(map(str, self.epochs))}")
        for share in self.prune:
            if not 0 < share < 1:
                raise OptionError(f"prune must be between 0 and 1, received {share}; expected e.g. 0.5")
        if self.weights is not None and not self.weights.is_dir():
            raise OptionError(f"the weights folder {self.weights} does not exist; choose a folder of weights files")
        for size in (*self.input_sizes, self.build.input_size or SMALLEST_INPUT):
            if size < SMALLEST_INPUT:
                raise OptionError(f"input size {size} is too small; backbones take {SMALLEST_INPUT} pixels or more")
        self._check_build()

    def _check_build(self) -> None:
        build = self.build
        if build.conversion.quantize != "int8":
            raise OptionError(
                f"a search is for int8 only, received {build.conversion.quantize}; leave --quantize or the limits out"
            )
        if build.weights is not None and build.backbone is None:
            raise OptionError("a weights file belongs to one backbone; name it: --backbone")
        if build.normalization is not None and build.backbone is None and not self.backbones:
            raise OptionError("a normalization belongs to one Keras file; name it: --backbone")
        if build.edgetpu_backbone is not None:
            raise OptionError("a compiled backbone leaves nothing to search; leave --edgetpu-backbone out")

    @property
    def is_length_fixed(self) -> bool:
        """Whether the number of epochs is fixed, so that only models with that much training can be picked."""
        return isinstance(self.build.fine_tune, int)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The numbers of epochs to try, increasing."""
        if isinstance(self.build.fine_tune, int):
            return (self.build.fine_tune,)
        return () if self.build.fine_tune == "off" else self.epochs

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of multiply-accumulates to prune; without training, only a share that the user fixed."""
        if self.build.pruning is not None:
            return (self.build.pruning.share,)
        return () if self.build.fine_tune == "off" else self.prune
