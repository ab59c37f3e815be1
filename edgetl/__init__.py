"""edgetl: transfer-learned image models that are small, honestly measured, and keep learning on the device.

The verbs of the command line are functions here, and the verbs of learning are methods of `Learner`. Everything is
loaded on first use, so that importing edgetl costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetl.backbones import list_backbones
    from edgetl.bundle import Bundle, open_bundle
    from edgetl.conversion import Artifact
    from edgetl.conversion.bundle_export import export
    from edgetl.conversion.file_description import show
    from edgetl.deployment import (
        Deployed,
        Transport,
        connect,
        deploy,
        devices,
        list_keys,
        logs,
        new_key,
        pull,
        rollback,
        service,
        sign,
        status,
        trim,
        trust_key,
    )
    from edgetl.deployment.provisioning import doctor, prepare
    from edgetl.errors import (
        BundleError,
        CanaryError,
        ConversionError,
        DataError,
        DeviceError,
        EdgetlError,
        EngineError,
        ImageError,
        InstallError,
        IntegrityError,
        KeyFileError,
        LearningError,
        MissingExtraError,
        OptionError,
        SignatureError,
        StorageError,
        TrainingError,
        UnknownNameError,
        WeightsError,
    )
    from edgetl.evaluation import Evaluation, Report, evaluate
    from edgetl.learners import Statistics
    from edgetl.pipeline import Budget, BuildOptions, BuildResult, build
    from edgetl.pipeline.edgetpu import check
    from edgetl.pipeline.edgetpu import compile_bundle as compile
    from edgetl.pipeline.search import SearchOptions, SearchResult, search
    from edgetl.runtime import Classifier, Learner, Prediction, Preprocess
    from edgetl.runtime.bench import bench
    from edgetl.runtime.learning import Step, run
    from edgetl.targets import Target, list_targets, load_target

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "Budget",
    "BuildOptions",
    "BuildResult",
    "Bundle",
    "BundleError",
    "CanaryError",
    "Classifier",
    "ConversionError",
    "DataError",
    "Deployed",
    "DeviceError",
    "EdgetlError",
    "EngineError",
    "Evaluation",
    "ImageError",
    "InstallError",
    "IntegrityError",
    "KeyFileError",
    "Learner",
    "LearningError",
    "MissingExtraError",
    "OptionError",
    "Prediction",
    "Preprocess",
    "Report",
    "SearchOptions",
    "SearchResult",
    "SignatureError",
    "Statistics",
    "Step",
    "StorageError",
    "Target",
    "TrainingError",
    "Transport",
    "UnknownNameError",
    "WeightsError",
    "__version__",
    "bench",
    "build",
    "check",
    "compile",
    "connect",
    "deploy",
    "devices",
    "doctor",
    "evaluate",
    "export",
    "list_backbones",
    "list_keys",
    "list_targets",
    "load_target",
    "logs",
    "new_key",
    "open_bundle",
    "prepare",
    "pull",
    "rollback",
    "run",
    "search",
    "service",
    "show",
    "sign",
    "status",
    "trim",
    "trust_key",
]

_HOMES = {
    "Artifact": "edgetl.conversion",
    "Budget": "edgetl.pipeline",
    "BuildOptions": "edgetl.pipeline",
    "BuildResult": "edgetl.pipeline",
    "Bundle": "edgetl.bundle",
    "BundleError": "edgetl.errors",
    "CanaryError": "edgetl.errors",
    "Classifier": "edgetl.runtime",
    "ConversionError": "edgetl.errors",
    "DataError": "edgetl.errors",
    "Deployed": "edgetl.deployment",
    "DeviceError": "edgetl.errors",
    "EdgetlError": "edgetl.errors",
    "EngineError": "edgetl.errors",
    "Evaluation": "edgetl.evaluation",
    "ImageError": "edgetl.errors",
    "InstallError": "edgetl.errors",
    "IntegrityError": "edgetl.errors",
    "KeyFileError": "edgetl.errors",
    "Learner": "edgetl.runtime",
    "LearningError": "edgetl.errors",
    "MissingExtraError": "edgetl.errors",
    "OptionError": "edgetl.errors",
    "Prediction": "edgetl.runtime",
    "Preprocess": "edgetl.runtime",
    "Report": "edgetl.evaluation",
    "SearchOptions": "edgetl.pipeline.search",
    "SearchResult": "edgetl.pipeline.search",
    "SignatureError": "edgetl.errors",
    "Statistics": "edgetl.learners",
    "Step": "edgetl.runtime.learning",
    "StorageError": "edgetl.errors",
    "Target": "edgetl.targets",
    "TrainingError": "edgetl.errors",
    "Transport": "edgetl.deployment",
    "UnknownNameError": "edgetl.errors",
    "WeightsError": "edgetl.errors",
    "bench": "edgetl.runtime.bench",
    "build": "edgetl.pipeline",
    "check": "edgetl.pipeline.edgetpu",
    "compile": "edgetl.pipeline.edgetpu:compile_bundle",
    "connect": "edgetl.deployment",
    "deploy": "edgetl.deployment",
    "devices": "edgetl.deployment",
    "doctor": "edgetl.deployment.provisioning",
    "evaluate": "edgetl.evaluation",
    "export": "edgetl.conversion.bundle_export",
    "list_backbones": "edgetl.backbones",
    "list_keys": "edgetl.deployment",
    "list_targets": "edgetl.targets",
    "load_target": "edgetl.targets",
    "logs": "edgetl.deployment",
    "new_key": "edgetl.deployment",
    "open_bundle": "edgetl.bundle",
    "prepare": "edgetl.deployment.provisioning",
    "pull": "edgetl.deployment",
    "rollback": "edgetl.deployment",
    "run": "edgetl.runtime.learning",
    "search": "edgetl.pipeline.search",
    "service": "edgetl.deployment",
    "show": "edgetl.conversion.file_description",
    "sign": "edgetl.deployment",
    "status": "edgetl.deployment",
    "trim": "edgetl.deployment",
    "trust_key": "edgetl.deployment",
}
"""The module that each name is loaded from, with the name there where it is another one."""


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        module, _, attribute = _HOMES[name].partition(":")
        return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return __all__
