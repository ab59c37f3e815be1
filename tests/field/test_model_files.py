"""Model files as people save them are read, and those that an attacker wrote run nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetl import backbones
from edgetl.errors import WeightsError
from tests.backbones.pattern import pattern, random_weights

SIZE = 64


def saved(keras: Any, path: Path, layers_in_front: tuple[Any, ...] = (), **head: Any) -> Path:
    """A small classifier, saved as a whole model."""
    layers = keras.layers
    image = x = layers.Input((SIZE, SIZE, 3))
    for layer in (*layers_in_front, layers.Rescaling(1 / 255)):
        x = layer(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="features", **head)(x)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D(name="pool")(x))
    model = keras.Model(image, layers.Dense(4, activation="softmax")(x))
    model.set_weights(random_weights(model))
    model.save(path)
    return path


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


def forged(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a .keras file in which `change` has edited the configuration."""
    copy = path.with_name("forged.keras")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            target.writestr(name, content)
    return copy


def layer(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in config["config"]["layers"] if item["class_name"] == name)


class TestModelsAsPeopleSaveThem:
    @pytest.mark.parametrize("library", ["keras", "tf_keras"])
    @pytest.mark.parametrize("suffix", ["keras", "h5"])
    def test_a_model_that_was_compiled_before_it_was_saved_is_read(
        self, tmp_path: Path, library: str, suffix: str
    ) -> None:
        keras = pytest.importorskip(library)
        path = saved(keras, tmp_path / f"m.{suffix}")
        model = keras.models.load_model(path)
        model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        model.save(path)
        assert backbones.get_backbone(str(path)).embedding_size == 8

    def test_constraints_regularizers_and_layers_without_effect_at_inference_are_read(
        self, keras: Any, tmp_path: Path
    ) -> None:
        layers = keras.layers
        path = saved(
            keras,
            tmp_path / "m.keras",
            (
                layers.Identity(),
                layers.RandomErasing(),
                layers.RandomFlip("horizontal"),
                layers.RandomHue(0.1, (0, 255)),
            ),
            kernel_constraint=keras.constraints.MaxNorm(2),
            kernel_regularizer=keras.regularizers.L1L2(1e-4, 1e-4),
            kernel_initializer="he_uniform",
        )
        spec = backbones.get_backbone(str(path))
        extractor = keras.models.load_model(path)
        expected = keras.Model(extractor.input, extractor.get_layer("pool").output)(
            pattern(SIZE)[None].astype(np.float32), training=False
        )
        offset, scale = spec.normalization
        found = backbones.build(spec)((pattern(SIZE)[None].astype(np.float32) - offset) / scale)
        np.testing.assert_allclose(found.numpy(), np.asarray(expected), rtol=1e-4, atol=1e-5)

    def test_a_model_trained_in_half_precision_is_read_in_float32(self, keras: Any, tmp_path: Path) -> None:
        keras.config.set_dtype_policy("mixed_float16")
        try:
            path = saved(keras, tmp_path / "m.keras")
        finally:
            keras.config.set_dtype_policy("float32")
        assert backbones.build(backbones.get_backbone(str(path))).dtype == "float32"

    def test_the_content_decides_and_not_the_suffix(self, keras: Any, tmp_path: Path) -> None:
        path = saved(keras, tmp_path / "m.keras")
        renamed = path.rename(tmp_path / "m.h5")
        assert backbones.get_backbone(str(renamed)).embedding_size == 8

    @pytest.mark.parametrize("library", ["keras", "tf_keras"])
    def test_a_model_that_was_never_built_is_refused_with_the_remedy(self, tmp_path: Path, library: str) -> None:
        keras = pytest.importorskip(library)
        path = tmp_path / "unbuilt.keras"
        keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]).save(path)
        with pytest.raises(WeightsError, match=r"keras\.Input") as refused:
            backbones.get_backbone(str(path))
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize(
        ("variable", "settings"),
        [
            ("torch", {}),
            ("jax", {}),
            (None, {"image_data_format": "channels_first", "floatx": "float16", "backend": "torch"}),
        ],
    )
    def test_the_keras_settings_of_other_projects_do_not_reach_a_build(
        self, keras: Any, tmp_path: Path, variable: str | None, settings: dict[str, str]
    ) -> None:
        path = saved(keras, tmp_path / "m.keras")
        (tmp_path / ".keras").mkdir()
        (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
        code = (
            "import sys; from edgetl import backbones\n"
            "model = backbones.build(backbones.get_backbone(sys.argv[1]))\n"
            "other = backbones.build(backbones.get_backbone('mobilenet-v2-0.35'), 96, pretrained=False)\n"
            "print(model.output_shape, model.dtype, other.input_shape)"
        )
        environment = {**os.environ, "HOME": str(tmp_path), **({"KERAS_BACKEND": variable} if variable else {})}
        environment.pop("KERAS_HOME", None)
        ran = subprocess.run(
            [sys.executable, "-c", code, str(path)], env=environment, capture_output=True, text=True, timeout=300
        )
        assert ran.stdout.strip() == "(None, 8) float32 (None, 96, 96, 3)", ran.stderr


class TestModelsThatAnAttackerWrote:
    def test_a_layer_that_is_registered_as_another_is_refused(self, keras: Any, tmp_path: Path) -> None:
        """Keras builds what `registered_name` says, here a SavedModel, whatever the class name shows."""

        def disguise(config: dict[str, Any]) -> None:
            layer(config, "Dropout").update(
                registered_name="keras>TFSMLayer", config={"filepath": str(tmp_path / "evil"), "name": "dropout"}
            )

        path = forged(saved(keras, tmp_path / "m.keras"), disguise)
        with pytest.raises(WeightsError, match="Dropout registered as keras>TFSMLayer"):
            backbones.get_backbone(str(path))

    @pytest.mark.parametrize(
        "module", ["os", "keras.src.utils.file_utils", "keras_hub.models", "tensorflow", "keras.layers/../os", "kerasx"]
    )
    def test_a_layer_of_another_module_is_refused(self, keras: Any, tmp_path: Path, module: str) -> None:
        path = forged(saved(keras, tmp_path / "m.keras"), lambda config: layer(config, "Conv2D").update(module=module))
        with pytest.raises(WeightsError, match="which edgetl does not support"):
            backbones.get_backbone(str(path))

    @pytest.mark.parametrize("name", ["__lambda__", "__typespec__", "__tensor__", "__numpy__", "Lambda", "TFSMLayer"])
    def test_objects_that_keras_would_evaluate_are_refused_anywhere(
        self, keras: Any, tmp_path: Path, name: str
    ) -> None:
        def plant(config: dict[str, Any]) -> None:
            layer(config, "Conv2D")["config"]["activation"] = {"class_name": name, "config": {"value": "eval"}}

        path = forged(saved(keras, tmp_path / "m.keras"), plant)
        with pytest.raises(WeightsError, match=f"contains {name}, which edgetl does not support"):
            backbones.get_backbone(str(path))

    def test_an_initializer_is_never_built(self, keras: Any, tmp_path: Path) -> None:
        def plant(config: dict[str, Any]) -> None:
            layer(config, "Conv2D")["config"]["kernel_initializer"] = {
                "class_name": "TFSMLayer", "module": "keras.layers", "config": {"filepath": str(tmp_path / "evil")}
            }  # fmt: skip

        path = forged(saved(keras, tmp_path / "m.keras"), plant)
        assert backbones.get_backbone(str(path)).embedding_size == 8

    @pytest.mark.parametrize(
        ("key", "value"), [("filters", 1 << 30), ("filters", 9), ("kernel_size", [1 << 20, 3]), ("groups", 1 << 40)]
    )
    def test_a_layer_that_would_take_all_memory_is_refused_before_it_is_built(
        self, keras: Any, tmp_path: Path, key: str, value: Any
    ) -> None:
        path = forged(saved(keras, tmp_path / "m.keras"), lambda c: layer(c, "Conv2D")["config"].update({key: value}))
        with pytest.raises(WeightsError, match=f"a layer with {key} = "):
            backbones.get_backbone(str(path))

    @pytest.mark.parametrize("depth", [500, 100_000])
    def test_a_configuration_nested_too_deeply_is_refused(self, keras: Any, tmp_path: Path, depth: int) -> None:
        path = saved(keras, tmp_path / "m.keras")
        copy = tmp_path / "deep.keras"
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
            for name in source.namelist():
                content = source.read(name).decode() if name == "config.json" else source.read(name)
                if name == "config.json":
                    content = content.replace('"class_name"', f'"x": {"[" * depth}{"]" * depth}, "class_name"', 1)
                target.writestr(name, content)
        with pytest.raises(WeightsError, match=r"nested deeper|not a complete Keras model"):
            backbones.get_backbone(str(copy))

    def test_weights_that_refer_to_another_file_are_refused(self, keras: Any, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        path = saved(keras, tmp_path / "m.keras")
        copy = tmp_path / "linked.keras"
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if name == "model.weights.h5":
                    buffer = io.BytesIO(content)
                    with h5py.File(buffer, "r+") as file:
                        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
                    content = buffer.getvalue()
                target.writestr(name, content)
        with pytest.raises(WeightsError, match="refers to other files"):
            backbones.get_backbone(str(copy))
