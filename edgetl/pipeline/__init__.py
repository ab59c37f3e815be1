"""The one place where the order of a build is written: photos in, one measured bundle out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Optional, Union

from edgetl.bundle import is_label
from edgetl.conversion import Artifact, check
from edgetl.conversion.origin import Origin, find_origin
from edgetl.data import Dataset, load_folder, load_related, load_unlabelled
from edgetl.data.listing import list_photos, list_pictures
from edgetl.errors import DataError, OptionError, StorageError
from edgetl.evaluation import Report, write_html
from edgetl.pipeline.candidate import Candidate
from edgetl.pipeline.edgetpu import (
    EdgeTpuModel,
    compile_for,
    require_compiler,
    require_mappable,
    require_suitable,
    take_precompiled,
)
from edgetl.pipeline.gate import require_float
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import Chosen, choose_model
from edgetl.pipeline.options import BuildOptions, BuildResult, Progress
from edgetl.pipeline.shelf import Measured, Shelf
from edgetl.pipeline.stages import solve_float, solve_stage_1
from edgetl.pipeline.steps import Steps
from edgetl.pipeline.telling import tell
from edgetl.runtime import Embedder
from edgetl.targets import Target, load_target

__all__ = ["BuildOptions", "BuildResult", "Progress", "build"]

NAME_LIMIT_BYTES = 200
"""Of a bundle's name: file systems take 255 bytes, and the names of files that are being written are longer."""


def build(
    source: Union[str, Path],
    target: str = "generic",
    options: Optional[BuildOptions] = None,
    *,
    name: Optional[str] = None,
    output: Union[str, Path] = ".",
    progress: Optional[Progress] = None,
) -> BuildResult:
    """Turn photos into OUTPUT/NAME.edgetl, with NAME-report.html and NAME-report.json beside it.

    Args:
        source: a folder per class, or a CSV of path,label.
        target: the name of a board.
        options: what to do otherwise than by default.
        name: of the bundle; the source's name for None.
        output: the folder to write to; it is made where it is missing.
        progress: called with a step's name, how much is done, and how much there is.

    Raises:
        EdgetlError: anything the user can mend; nothing half-written is left.
    """
    source, output, options = Path(source), Path(output), options or BuildOptions()
    board, steps = load_target(target), Steps(progress)
    name = _checked_name(name or _name_of(source.resolve()))
    _check_board(board, options)
    backbone = options.backbone or board.backbone
    require_suitable(backbone, board)
    origin = find_origin(
        backbone, options.input_size, options.weights, options.cache, options.normalization, options.edgetpu_backbone
    )
    require_float(origin, options)
    _check_output(output, name)
    list_photos(source)  # an unusable folder is told of before anything is compiled
    if options.unlabelled is not None:
        list_pictures(options.unlabelled)
    if options.related is not None:
        list_photos(options.related)

    with steps.measure("compile backbone"):
        artifact = origin.compile(options.conversion.quantize)
        check(artifact.model, board)
        precompiled = take_precompiled(artifact.model, origin.edgetpu_model, board)
        if precompiled is None:
            require_mappable(artifact.model, board)
            if options.require_edgetpu:
                require_compiler(board, progress)
    with steps.measure("read photos"):
        dataset = _load(source, origin, Embedder(artifact.model, origin.preprocess), options, progress)
    with steps.measure("solve last layer"):
        first = solve_stage_1(artifact, dataset)
    job = _with_further_pictures(Job(origin, dataset, board, options, steps), artifact)
    chosen = choose_model(first, job)
    kept, shelf = chosen.candidate, Shelf(name, board, chosen.origin, job.dataset)
    with tempfile.TemporaryDirectory(prefix="edgetl-") as scratch:
        with steps.measure("evaluate"):
            shipped = shelf.measure(kept, Path(scratch), progress)
        with steps.measure("float reference"):
            reference = _float_reference(chosen, shelf, job, Path(scratch))
    with steps.measure("compile for the Edge TPU"):
        unchanged = precompiled if kept.artifact is artifact else None
        edgetpu = unchanged or compile_for(kept.artifact.model, board)
    report = tell(shelf, first, chosen, shipped, reference, steps.seconds())
    result = _write(output, shelf, kept, report, edgetpu)
    job.close()
    return result


def _name_of(source: Path) -> str:
    """A folder may have dots in its name; a file leaves its suffix."""
    return source.stem if source.is_file() else source.name


def _checked_name(name: str) -> str:
    plain = is_label(name) and not name.startswith(".") and not any(character in name for character in "/\\")
    if not plain or len(os.fsencode(name)) > NAME_LIMIT_BYTES:
        raise OptionError(f"'{name}' cannot be the name of a bundle; give a plain one: --name leaves")
    return name


def _check_board(board: Target, options: BuildOptions) -> None:
    quantize = options.conversion.quantize
    if quantize not in board.quantize:
        raise OptionError(f"{board.name} takes {', '.join(board.quantize)}, not --quantize {quantize}")
    if options.edgetpu_backbone is not None and not board.edgetpu:
        raise OptionError(f"{board.name} has no Edge TPU; leave --edgetpu-backbone out")


def _check_output(output: Path, name: str) -> None:
    """Better now than after an hour of training."""
    for path in _files_of(output, name):
        if path.is_dir():
            raise StorageError(f"cannot write {path}: it is a folder; choose another --name or --output")
    existing = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise StorageError(f"cannot write to {output}: {existing} is no folder of yours; choose another --output")


def _load(
    source: Path, origin: Origin, embedder: Embedder, options: BuildOptions, progress: Optional[Progress]
) -> Dataset:
    """Every photo is opened once: checked, embedded, and kept as a frame where it is needed again."""
    frames = options.needs_frames
    dataset = load_folder(source, options.data, origin.preprocess, embedder, frames, options.cache, progress)
    if not len(dataset.indices("test")):
        raise DataError(
            f"no class in {source} has 3 photos that differ, so none can be held back to measure by; add photos"
        )
    return dataset


def _with_further_pictures(job: Job, artifact: Artifact) -> Job:
    """With the unlabelled pictures and the related photos, and what their checks found told with the rest."""
    options, embedder = job.options, Embedder(artifact.model, job.origin.preprocess)

    def read(load: Callable[..., Dataset], source: Optional[Path]) -> Optional[Dataset]:
        if source is None:
            return None
        with job.steps.measure("read further pictures"):
            return load(source, job.dataset, embedder, options.data.workers, options.cache, job.steps.progress)

    unlabelled, related = read(load_unlabelled, options.unlabelled), read(load_related, options.related)
    found = [further.report.findings for further in (unlabelled, related) if further is not None]
    report = replace(job.dataset.report, findings=sum(found, job.dataset.report.findings))
    return replace(job, dataset=replace(job.dataset, report=report), unlabelled=unlabelled, related=related)


def _float_reference(chosen: Chosen, shelf: Shelf, job: Job, scratch: Path) -> Optional[Measured]:
    """None where it was not asked for, would be the same, or only the compiled backbone is there."""
    kept, origin = chosen.candidate, chosen.origin
    if not job.options.float_reference or kept.artifact.quantize == "float32" or origin.assemble is None:
        return None
    twin = chosen.twin or solve_float(kept, replace(job, origin=origin))
    return shelf.measure(twin, scratch, job.steps.progress)


def _files_of(output: Path, name: str) -> list[Path]:
    return [output / f"{name}{ending}" for ending in (".edgetl", "-report.html", "-report.json")]


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder, for as long as the block goes well; one that was made for nothing goes again."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # one that something was written to stays
            for path in missing:
                path.rmdir()
        raise


def _write(output: Path, shelf: Shelf, kept: Candidate, report: Report, edgetpu: EdgeTpuModel) -> BuildResult:
    """All three files are complete before the first takes its name."""
    final = _files_of(output, shelf.name)
    with _made(output), tempfile.TemporaryDirectory(prefix=".edgetl-", dir=output) as folder:
        bundle, html, text = (Path(folder) / path.name for path in final)
        shelf.pack(bundle, kept, report.proof(), edgetpu)
        report = replace(report, summary=replace(report.summary, bundle_bytes=bundle.stat().st_size))
        write_html(report, html, shelf.root)
        text.write_text(report.to_json(), encoding="utf-8")
        for made, path in zip((bundle, html, text), final):
            os.replace(made, path)
    return BuildResult(final[0], final[1], final[2], report, edgetpu.note.format(bundle=final[0]))
