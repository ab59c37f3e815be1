"""edgetl: transfer-learned image models that are small, honestly measured, and keep learning on the device.

The verbs of the command line are functions here, and the verbs of learning are methods of `Learner`. Everything is
loaded on first use, so that importing edgetl costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl.lazy import attribute_loader

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

_MODULES = {
    "Artifact": "conversion",
    "Budget": "pipeline",
    "BuildOptions": "pipeline",
    "BuildResult": "pipeline",
    "Bundle": "bundle",
    "BundleError": "errors",
    "CanaryError": "errors",
    "Classifier": "runtime",
    "ConversionError": "errors",
    "DataError": "errors",
    "Deployed": "deployment",
    "DeviceError": "errors",
    "EdgetlError": "errors",
    "EngineError": "errors",
    "Evaluation": "evaluation",
    "ImageError": "errors",
    "InstallError": "errors",
    "IntegrityError": "errors",
    "KeyFileError": "errors",
    "Learner": "runtime",
    "LearningError": "errors",
    "MissingExtraError": "errors",
    "OptionError": "errors",
    "Prediction": "runtime",
    "Preprocess": "runtime",
    "Report": "evaluation",
    "SearchOptions": "pipeline.search",
    "SearchResult": "pipeline.search",
    "SignatureError": "errors",
    "Statistics": "learners",
    "Step": "runtime.learning",
    "StorageError": "errors",
    "Target": "targets",
    "TrainingError": "errors",
    "Transport": "deployment",
    "UnknownNameError": "errors",
    "WeightsError": "errors",
    "bench": "runtime.bench",
    "build": "pipeline",
    "check": "pipeline.edgetpu",
    "compile": "pipeline.edgetpu:compile_bundle",
    "connect": "deployment",
    "deploy": "deployment",
    "devices": "deployment",
    "doctor": "deployment.provisioning",
    "evaluate": "evaluation",
    "export": "conversion.bundle_export",
    "list_backbones": "backbones",
    "list_keys": "deployment",
    "list_targets": "targets",
    "load_target": "targets",
    "logs": "deployment",
    "new_key": "deployment",
    "open_bundle": "bundle",
    "prepare": "deployment.provisioning",
    "pull": "deployment",
    "rollback": "deployment",
    "run": "runtime.learning",
    "search": "pipeline.search",
    "service": "deployment",
    "show": "conversion.file_description",
    "sign": "deployment",
    "status": "deployment",
    "trim": "deployment",
    "trust_key": "deployment",
}
"""The module that each name is loaded from, with the name there where it is another one."""

if not TYPE_CHECKING:
    __getattr__ = attribute_loader(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
