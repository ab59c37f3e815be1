"""Builds a bundle from photos: compiles the backbone, runs the stages in order, measures the result, and packs it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Union

from edgetl.conversion import Artifact, BackboneSource, check, find_backbone_source
from edgetl.data import Dataset, Finding, ReadingOptions, load_folder, load_related, load_unlabelled
from edgetl.durable import replace_file, sync_folder
from edgetl.errors import DataError
from edgetl.evaluation import Report, write_html
from edgetl.pipeline.budget import require_known_latency, require_within
from edgetl.pipeline.bundle_packer import BundlePacker, Measurement
from edgetl.pipeline.candidate import Candidate
from edgetl.pipeline.compilation import solve_float
from edgetl.pipeline.edgetpu import (
    EdgeTpuModel,
    compile_for,
    require_compiler,
    require_mappable,
    require_suitable,
    take_precompiled,
)
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import Model
from edgetl.pipeline.options import BuildOptions, BuildResult
from edgetl.pipeline.preflight import (
    check_board,
    check_name,
    check_output,
    check_sources,
    default_name,
    fit_to_values,
    output_files,
    require_float_model,
)
from edgetl.pipeline.reporting import make_report
from edgetl.pipeline.stages.accuracy_gate import pass_gate
from edgetl.pipeline.stages.closed_form import solve_closed_form
from edgetl.pipeline.stages.distillation import distil
from edgetl.pipeline.stages.fine_tuning import fine_tune_backbone
from edgetl.pipeline.stages.from_scratch import compare_from_scratch
from edgetl.pipeline.stages.pruning import prune_backbone
from edgetl.pipeline.stages.quantization_aware import train_quantization_aware
from edgetl.pipeline.stages.related import learn_from_related
from edgetl.pipeline.stages.sparsity import compress_weights
from edgetl.pipeline.step_times import StepTimes
from edgetl.progress import Progress
from edgetl.runtime import Embedder
from edgetl.targets import Target, load_target

STAGES: tuple[Callable[[Model, Job], Model], ...] = (
    learn_from_related,
    fine_tune_backbone,
    distil,
    prune_backbone,
    compress_weights,
    train_quantization_aware,
    pass_gate,
    compare_from_scratch,
)
"""The stages after stage 1, in order. A stage that the options do not ask for changes nothing."""


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
        source: a folder with one folder per class, or a CSV file with the columns path and label.
        target: the name of a board.
        options: the defaults for None.
        name: the name of the bundle; the name of the source for None.
        output: the folder to write to; created if it does not exist.
        progress: called with the name of a step, how many of its units are done, and how many there are.

    Raises:
        EdgetlError: anything that the user can correct; no partial files are left behind.
    """
    source, output, options = Path(source), Path(output), options or BuildOptions()
    board, steps = load_target(target), StepTimes(progress)
    name = check_name(name or default_name(source))
    backbone = _check_before_work(source, output, name, board, options)

    with steps.measure("compile backbone"):
        compiled = _compile_backbone(backbone, board, options, progress)
    artifact = compiled.artifact
    with steps.measure("read photos"):
        backbone, value_range = fit_to_values(backbone, source)
        dataset = _load_photos(source, backbone, artifact, options, progress)
        dataset = _with_findings(dataset, value_range.finding()) if value_range else dataset
    with steps.measure("solve last layer"):
        model = solve_closed_form(artifact, backbone, dataset)
    stage_1 = model.candidate
    job = _load_further_pictures(Job(dataset, board, options, steps), backbone, artifact)
    for stage in STAGES:
        model = stage(model, job)
    shipped = model.candidate
    require_within(options.budget, model.backbone, shipped.artifact, board)

    packer = BundlePacker(name, board, model.backbone, job.dataset)
    with tempfile.TemporaryDirectory(prefix="edgetl-") as scratch:
        with steps.measure("evaluate"):
            measurement = packer.measure(shipped, Path(scratch), progress)
        with steps.measure("float reference"):
            reference = _measure_float(model, packer, job, Path(scratch))
    with steps.measure("compile for the Edge TPU"):
        precompiled = compiled.edgetpu if shipped.artifact is artifact else None
        edgetpu = precompiled or compile_for(shipped.artifact.model, board)
    report = make_report(packer, stage_1, model, measurement, reference, steps.seconds())
    result = _write(output, packer, shipped, report, edgetpu)
    job.close()
    return result


def _check_before_work(source: Path, output: Path, name: str, board: Target, options: BuildOptions) -> BackboneSource:
    """The backbone's source, after all checks that need neither compiled models nor photos."""
    check_board(board, options)
    require_known_latency(options.budget, board, options.conversion.quantize)
    name_of_backbone = options.backbone or board.backbone
    require_suitable(name_of_backbone, board)
    backbone = find_backbone_source(
        name_of_backbone,
        options.input_size,
        options.weights,
        options.cache,
        options.normalization,
        options.edgetpu_backbone,
    )
    require_float_model(backbone, options)
    check_output(output, name)
    check_sources(source, options)
    return backbone


@dataclass(frozen=True)
class _CompiledBackbone:
    """The backbone as published, and its Edge TPU model if it came with one that this board can use."""

    artifact: Artifact
    edgetpu: Optional[EdgeTpuModel]


def _compile_backbone(
    backbone: BackboneSource, board: Target, options: BuildOptions, progress: Optional[Progress]
) -> _CompiledBackbone:
    artifact = backbone.compile(options.conversion.quantize)
    check(artifact.model, board)
    if options.pruning is None:
        require_within(options.budget, backbone, artifact, board)
    precompiled = take_precompiled(artifact.model, backbone.edgetpu_model, board)
    if precompiled is None:
        require_mappable(artifact.model, board)
        if options.require_edgetpu:
            require_compiler(board, progress)
    return _CompiledBackbone(artifact, precompiled)


def _load_photos(
    source: Path, backbone: BackboneSource, artifact: Artifact, options: BuildOptions, progress: Optional[Progress]
) -> Dataset:
    """Each photo is opened once: checked, embedded, and kept as a decoded frame if a later stage needs it."""
    embedder = Embedder(artifact.model, backbone.preprocess)
    dataset = load_folder(
        source, options.data, backbone.preprocess, embedder, options.needs_frames, options.cache, progress
    )
    if not len(dataset.indices("test")):
        raise DataError(
            f"no class in {source} has 3 or more different photos, so none can be held out as test photos; add photos"
        )
    return dataset


def _with_findings(dataset: Dataset, *findings: Finding) -> Dataset:
    return replace(dataset, report=replace(dataset.report, findings=(*dataset.report.findings, *findings)))


def _load_further_pictures(job: Job, backbone: BackboneSource, artifact: Artifact) -> Job:
    """The job with the unlabelled pictures and related photos, their findings added to those of the photos."""
    options, embedder = job.options, Embedder(artifact.model, backbone.preprocess)

    def load(loader: Callable[..., Dataset], source: Optional[Path]) -> Optional[Dataset]:
        if source is None:
            return None
        with job.steps.measure("read further pictures"):
            reading = ReadingOptions(options.data.workers, options.cache)
            return loader(source, job.dataset, embedder, reading, job.steps.progress)

    unlabelled, related = load(load_unlabelled, options.unlabelled), load(load_related, options.related)
    reports = [further.report for further in (unlabelled, related) if further is not None]
    dataset = _with_findings(job.dataset, *(finding for report in reports for finding in report.findings))
    return replace(job, dataset=dataset, unlabelled=unlabelled, related=related)


def _measure_float(model: Model, packer: BundlePacker, job: Job, scratch: Path) -> Optional[Measurement]:
    """The float twin's measurement; None if it was not asked for, would be the same, or needs a float backbone."""
    shipped = model.candidate
    if not job.options.float_reference or shipped.artifact.quantize == "float32" or model.backbone.assemble is None:
        return None
    return packer.measure(model.float_twin or solve_float(model, job), scratch, job.steps.progress)


@contextmanager
def _created(folder: Path) -> Iterator[None]:
    """Create the folder for the block; if the block fails, remove the folders that were created and are empty."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # not empty: something else was written to it
            for path in missing:
                path.rmdir()
        raise


def _write(
    output: Path, packer: BundlePacker, shipped: Candidate, report: Report, edgetpu: EdgeTpuModel
) -> BuildResult:
    """Write the bundle and both reports; all three are complete before the first gets its final name."""
    final = output_files(output, packer.name)
    with _created(output), tempfile.TemporaryDirectory(prefix=".edgetl-", dir=output) as folder:
        bundle, html, text = (Path(folder) / path.name for path in final)
        packer.pack(bundle, shipped, report.proof(), edgetpu)
        report = replace(report, summary=replace(report.summary, bundle_bytes=bundle.stat().st_size))
        write_html(report, html, packer.photo_root)
        replace_file(text, report.to_json().encode())
        for complete, path in zip((bundle, html, text), final):
            os.replace(complete, path)
        sync_folder(output)
    return BuildResult(final[0], final[1], final[2], report, edgetpu.note.format(bundle=final[0]))
