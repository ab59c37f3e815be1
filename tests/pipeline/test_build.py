"""A build from photos to a bundle and its reports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgetl.bundle import open_bundle
from edgetl.conversion import export
from edgetl.errors import DataError, OptionError, StorageError
from edgetl.evaluation import Report
from edgetl.learners import Statistics
from edgetl.pipeline import BuildOptions, build
from edgetl.runtime import Classifier
from tests.pipeline.builds import CLASSES, PHOTOS, SIZE

pytestmark = pytest.mark.slow


def edgetl(*arguments, cwd=None):
    command = [sys.executable, "-m", "edgetl", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)


def test_the_model_recognises_the_digits(built):
    assert built.result.report.summary.accuracy.value > 0.9


def test_quantization_costs_almost_no_accuracy(built):
    comparison = built.result.report.quantization
    assert comparison is not None
    assert comparison.difference.points > -3


def test_evaluating_the_bundle_gives_the_accuracy_of_the_report(built):
    done = edgetl("evaluate", built.result.bundle, "--data", built.photos, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["accuracy"] == built.result.report.summary.accuracy.value
    assert answer["n"] == built.result.report.evaluation.n
    assert set(answer["per_class"]) == set(CLASSES)


def test_evaluating_on_the_training_photos_prints_a_note(built, tmp_path):
    for path in built.photos.rglob("*.png"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / path.parent.name)
    done = edgetl("evaluate", built.result.bundle, "--data", tmp_path, "--json")
    assert "it was trained on most of them" in done.stderr
    assert json.loads(done.stdout)["n"] == built.result.report.data.photos


def test_run_prints_one_line_per_image(built):
    done = edgetl("run", built.result.bundle, "--source", built.photos / "test" / "7", "--json")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(list((built.photos / "test" / "7").iterdir()))
    assert set(answers[0]) >= {"source", "label", "probability", "ms"}
    assert np.mean([answer["label"] == "7" for answer in answers]) > 0.8


def test_the_statistics_contain_all_photos_except_the_test_photos(built):
    statistics = Statistics.from_bytes(open_bundle(built.result.bundle).read("statistics.bin"))
    assert dict(zip(statistics.labels, statistics.counts)) == dict.fromkeys(CLASSES, PHOTOS)


def test_the_guard_contains_the_embeddings_of_the_validation_photos(built):
    bundle = open_bundle(built.result.bundle)
    counts = built.result.report.data.counts
    labels = json.loads(bundle.read("guard/labels.json"))
    assert len(labels) == sum(per_split["val"] for per_split in counts.values()) > 0


def test_the_canaries_pass_on_this_machine(built):
    bundle = open_bundle(built.result.bundle)
    classifier = Classifier(bundle)
    canaries = json.loads(bundle.read("canaries.json"))
    assert len(canaries["expected"]) == len(CLASSES)
    for expected in canaries["expected"]:
        answer = classifier.predict(bundle.read(expected["image"]))
        assert answer.label == expected["label"]
        assert abs(answer.probability - expected["probability"]) <= canaries["tolerance"]["probability"]


def test_the_bundle_contains_the_proof_without_names_or_times(built):
    text = open_bundle(built.result.bundle).read("report.json").decode()
    proof = Report.from_json(text)
    assert proof.summary.accuracy == built.result.report.summary.accuracy
    assert proof.seconds == {}
    assert str(built.photos) not in text


def test_the_reports_are_written_beside_the_bundle(built):
    page = built.result.report_html.read_text()
    assert "<html" in page
    assert Report.from_json(built.result.report_json.read_text()) == built.result.report
    names = {path.name for path in built.result.bundle.parent.iterdir()}
    assert names == {"digits.edgetl", "digits-report.html", "digits-report.json"}


def test_the_same_command_gives_the_same_bundle(built, tmp_path):
    options = BuildOptions(fine_tune="off", input_size=SIZE)
    again = build(built.photos, "rpi4", options, output=tmp_path)
    assert again.bundle.read_bytes() == built.result.bundle.read_bytes()


def test_a_path_may_be_a_string():
    options = BuildOptions(weights="w.h5", cache="/cache", related="others")
    assert (options.weights, options.cache, options.related) == (Path("w.h5"), Path("/cache"), Path("others"))
    with pytest.raises(OptionError, match="fine_tune must be auto"):
        BuildOptions(fine_tune=True)


def test_the_names_and_the_folder_of_the_photos_change_no_byte(built, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(built.photos, moved)
    for number, path in enumerate(sorted((moved / "train").rglob("*.png"))):
        path.rename(path.with_name(f"renamed-{number}.png"))
    options = BuildOptions(fine_tune="off", input_size=SIZE)
    again = build(moved, "rpi4", options, name="digits", output=tmp_path)
    assert again.bundle.read_bytes() == built.result.bundle.read_bytes()


def test_a_build_on_a_compiled_backbone_needs_no_tensorflow(built, tmp_path):
    script = (
        "import sys\n"
        "from edgetl.pipeline import BuildOptions, build\n"
        f"options = BuildOptions(fine_tune='off', input_size={SIZE})\n"
        f"build({str(built.photos)!r}, 'rpi4', options, output={str(tmp_path)!r})\n"
        "assert 'tensorflow' not in sys.modules and 'tf_keras' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_exported_classifier_predicts_like_the_bundle(built, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = export(built.result.bundle, tmp_path / "digits.tflite")
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    entrance, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert entrance["dtype"] == np.uint8
    assert list(entrance["shape"]) == [1, SIZE, SIZE, 3]
    classifier = Classifier(built.result.bundle)
    rng = np.random.default_rng(0)
    for frame in rng.integers(0, 256, (5, SIZE, SIZE, 3), np.uint8):
        interpreter.set_tensor(entrance["index"], frame[None])
        interpreter.invoke()
        probabilities = interpreter.get_tensor(exit_["index"])[0]
        expected = classifier.predict(frame)
        np.testing.assert_allclose(probabilities, list(expected.probabilities.values()), atol=1e-3)


def test_an_export_never_replaces_its_bundle(built, tmp_path):
    bundle = tmp_path / "digits.edgetl"
    shutil.copy(built.result.bundle, bundle)
    done = edgetl("export", bundle, "-o", bundle)
    assert done.returncode == 2
    assert "is the bundle itself" in done.stderr
    assert bundle.read_bytes() == built.result.bundle.read_bytes()


def test_an_earlier_bundle_can_be_the_backbone_of_a_build(built, tmp_path):
    options = BuildOptions(backbone=str(built.result.bundle))
    again = build(built.photos, "rpi4", options, name="next", output=tmp_path)
    first, second = open_bundle(built.result.bundle), open_bundle(again.bundle)
    assert first.read("model.tflite") == second.read("model.tflite")
    assert again.report.summary.accuracy.value == built.result.report.summary.accuracy.value


def test_fine_tuning_a_compiled_backbone_is_an_error(built, tmp_path):
    options = BuildOptions(backbone=str(built.result.bundle), fine_tune=2)
    with pytest.raises(OptionError, match="compiled, so it cannot be fine-tuned"):
        build(built.photos, "rpi4", options, output=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fine_tuning_is_kept_only_if_validation_prefers_it(built, tmp_path):
    options = BuildOptions(fine_tune=1, input_size=SIZE, float_reference=False)
    tuned = build(built.photos, "rpi4", options, output=tmp_path)
    first, second = tuned.report.training.stages
    assert first.kept != second.kept
    better = second if second.kept else first
    assert better.validation.value >= max(first.validation.value, second.validation.value)
    assert tuned.report.summary.accuracy.value == better.test.value


def test_a_broken_photo_is_reported_and_skipped(built, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(built.photos, photos)
    broken = photos / "train" / "7" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff not a photo")
    result = build(photos, "rpi4", BuildOptions(fine_tune="off", input_size=SIZE), output=tmp_path)
    assert any("broken.jpg" in str(finding.paths) for finding in result.report.data.findings)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_leaves_no_partial_files(built, tmp_path, number, code):
    output, scratch, cache = tmp_path / "output", tmp_path / "scratch", tmp_path / "cache"
    scratch.mkdir()
    command = [sys.executable, "-m", "edgetl", "build", "--data", built.photos, "--fine-tune", "1000"]
    command += ["--input-size", SIZE, "--output", output]
    environment = {**os.environ, "EDGETL_CACHE": str(cache), "TMPDIR": str(scratch)}
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, env=environment) as process:
        while not list(cache.glob("photos-*")):  # until it is working
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, message = process.communicate(timeout=600)
    assert process.returncode == code, message
    assert not output.exists() or list(output.iterdir()) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("folder", ["file/x", "/proc/x"])
def test_an_output_folder_that_cannot_be_written_is_a_one_line_error(built, tmp_path, folder):
    (tmp_path / "file").write_text("")
    done = edgetl("build", "--data", built.photos, "--fine-tune", "off", "--output", tmp_path / folder)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "choose another --output" in done.stderr


def test_a_folder_with_the_name_of_the_bundle_is_an_error_before_any_work(built, tmp_path):
    (tmp_path / "digits.edgetl").mkdir()
    with pytest.raises(StorageError, match="it is a folder"):
        build(built.photos, "rpi4", BuildOptions(fine_tune="off", input_size=SIZE), output=tmp_path)


def test_a_full_disk_is_a_one_line_error_and_leaves_no_folder(built, tmp_path):
    """On a real file system of 64 kB, mounted in its own namespace."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs "$0" && "$@"', disk]
    if subprocess.run(list(map(str, [*mount, "true"])), check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    command = [sys.executable, "-m", "edgetl", "build", "--data", built.photos, "--fine-tune", "off"]
    command += ["--input-size", SIZE, "--no-float-reference", "--output", disk / "models" / "first"]
    listed = ["sh", "-c", '"$@"; code=$?; find "$0"; exit $code', disk, *command]
    done = subprocess.run(list(map(str, [*mount, *listed])), check=False, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "disk is full" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout.split() == [str(disk)]


def test_too_few_photos_for_a_test_split_is_an_error(built, tmp_path):
    photos = tmp_path / "photos"
    for label in CLASSES:
        (photos / label).mkdir(parents=True)
        for path in sorted((built.photos / "train" / label).iterdir())[:2]:
            shutil.copy(path, photos / label)
    with pytest.raises(DataError, match="add photos"):
        build(photos, "rpi4", BuildOptions(fine_tune="off", input_size=SIZE), output=tmp_path)
