"""The one place where the order of a build is written: photos in, one measured bundle out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Optional, Union

from edgetl.conversion import Artifact, check
from edgetl.conversion.backbone_source import Origin, find_origin
from edgetl.data import Dataset, ReadingOptions, load_folder, load_related, load_unlabelled
from edgetl.durable import replace_file, sync_folder
from edgetl.errors import DataError
from edgetl.evaluation import Report, write_html
from edgetl.pipeline.budget import require_known_latency, require_within
from edgetl.pipeline.bundle_packer import Measured, Shelf
from edgetl.pipeline.candidate import Candidate
from edgetl.pipeline.edgetpu import (
    EdgeTpuModel,
    compile_for,
    require_compiler,
    require_mappable,
    require_suitable,
    take_precompiled,
)
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import Chosen, choose_model
from edgetl.pipeline.options import BuildOptions, BuildResult
from edgetl.pipeline.preflight import check_board, check_output, check_sources, checked_name, files_of, name_of
from edgetl.pipeline.reporting import tell
from edgetl.pipeline.stages.gate import require_float
from edgetl.pipeline.stages.transfer import solve_float, solve_stage_1
from edgetl.pipeline.step_times import Steps
from edgetl.progress import Progress
from edgetl.runtime import Embedder
from edgetl.targets import load_target

__all__ = ["BuildOptions", "BuildResult", "build"]


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
    name = checked_name(name or name_of(source))
    check_board(board, options)
    require_known_latency(options.budget, board, options.conversion.quantize)
    backbone = options.backbone or board.backbone
    require_suitable(backbone, board)
    origin = find_origin(
        backbone, options.input_size, options.weights, options.cache, options.normalization, options.edgetpu_backbone
    )
    require_float(origin, options)
    check_output(output, name)
    check_sources(source, options)

    with steps.measure("compile backbone"):
        artifact = origin.compile(options.conversion.quantize)
        check(artifact.model, board)
        if options.pruning is None:
            require_within(options.budget, origin, artifact, board)
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
    require_within(options.budget, chosen.origin, kept.artifact, board)
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
            reading = ReadingOptions(options.data.workers, options.cache)
            return load(source, job.dataset, embedder, reading, job.steps.progress)

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
    final = files_of(output, shelf.name)
    with _made(output), tempfile.TemporaryDirectory(prefix=".edgetl-", dir=output) as folder:
        bundle, html, text = (Path(folder) / path.name for path in final)
        shelf.pack(bundle, kept, report.proof(), edgetpu)
        report = replace(report, summary=replace(report.summary, bundle_bytes=bundle.stat().st_size))
        write_html(report, html, shelf.root)
        replace_file(text, report.to_json().encode())
        for made, path in zip((bundle, html, text), final):
            os.replace(made, path)
        sync_folder(output)
    return BuildResult(final[0], final[1], final[2], report, edgetpu.note.format(bundle=final[0]))
