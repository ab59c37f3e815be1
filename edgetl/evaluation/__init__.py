"""Measures how well a model does, and reports it: a value first (`Report`, JSON), rendered as HTML or in a terminal."""

from __future__ import annotations

from edgetl.evaluation.gate import Gate, GuiltyLayer, Judgement, Repair, allowed_drop, judge
from edgetl.evaluation.latency import (
    Latency,
    LatencyOptions,
    compressed_size,
    measure_latency,
    measure_model,
)
from edgetl.evaluation.renderers import wording
from edgetl.evaluation.renderers.html import render_html, write_html
from edgetl.evaluation.renderers.search_html import render_search_html, write_search
from edgetl.evaluation.renderers.search_terminal import render_search
from edgetl.evaluation.renderers.terminal import render_evaluation, render_terminal
from edgetl.evaluation.report import (
    SCHEMA,
    Data,
    DataFinding,
    Epoch,
    PrunedLayer,
    Pruning,
    Report,
    Stage,
    Summary,
    Training,
    Variant,
)
from edgetl.evaluation.scoring import (
    ClassResult,
    Comparison,
    Evaluation,
    Flip,
    ImageResult,
    LeftOut,
    compare,
    evaluate,
    proportion,
    score,
)
from edgetl.evaluation.search_report import SearchReport, Trial
from edgetl.evaluation.values import Figure
from edgetl.runtime.system import describe_machine

__all__ = [
    "SCHEMA",
    "ClassResult",
    "Comparison",
    "Data",
    "DataFinding",
    "Epoch",
    "Evaluation",
    "Figure",
    "Flip",
    "Gate",
    "GuiltyLayer",
    "ImageResult",
    "Judgement",
    "Latency",
    "LatencyOptions",
    "LeftOut",
    "PrunedLayer",
    "Pruning",
    "Repair",
    "Report",
    "SearchReport",
    "Stage",
    "Summary",
    "Training",
    "Trial",
    "Variant",
    "allowed_drop",
    "compare",
    "compressed_size",
    "describe_machine",
    "evaluate",
    "judge",
    "measure_latency",
    "measure_model",
    "proportion",
    "render_evaluation",
    "render_html",
    "render_search",
    "render_search_html",
    "render_terminal",
    "score",
    "wording",
    "write_html",
    "write_search",
]
