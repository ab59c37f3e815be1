"""Hides how Debian packages become a folder: apt fetches them into a place of its own, and nothing is installed."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.emulation.tools import UnavailableError, tell

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

EXTRACT = """
dpkg-deb --fsys-tarfile "$0" |
tar --extract --directory "$1" --keep-directory-symlink --exclude='./usr/share/'{doc,info,locale,man}'/*'
"""
"""dpkg-deb's own --extract would put a folder of base-files in the place of the link from /bin to /usr/bin."""


def unpack(folder: Path, packages: Sequence[str], architecture: str, suite: str) -> None:
    """Makes a folder of the files of packages, and of those that they need, from a suite of Debian.

    No package's scripts run. The archive is the one that this machine's own apt uses; no privileges are needed.
    Raises UnavailableError where there is no such archive, or it cannot be reached.
    """
    private = folder.with_name(f"{folder.name}.apt")
    shutil.rmtree(private, ignore_errors=True)
    try:
        own = _configure(private, architecture, suite)
        tell("apt-get", "--quiet", "update", APT_CONFIG=own)
        tell("apt-get", "--quiet", "--assume-yes", "install", "--download-only", *packages, APT_CONFIG=own)
        _make_skeleton(folder)
        for package in sorted(private.glob("cache/archives/*.deb")):
            tell("bash", "-o", "pipefail", "-c", EXTRACT, package, folder)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def own_architecture() -> str:
    """This machine's architecture, as Debian calls it. Raises UnavailableError where this is no Debian."""
    return tell("dpkg", "--print-architecture").strip()


def _configure(private: Path, architecture: str, suite: str) -> Path:
    """The configuration of an apt that knows one architecture and one suite, and believes that nothing is installed."""
    archive = _archive()
    if not KEYRING.exists():
        raise UnavailableError(f"there is no {KEYRING} to check Debian's packages with")
    for folder in ("lists/partial", "cache/archives/partial", "etc"):
        (private / folder).mkdir(parents=True)
    (private / "status").touch()
    (private / "etc/sources.list").write_text(f"deb [signed-by={KEYRING}] {archive} {suite} main\n")
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",  # apt's own user may not be able to read here
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "30",
        "Dir::Etc": private / "etc",
        "Dir::State": private,
        "Dir::State::status": private / "status",
        "Dir::Cache": private / "cache",
    }
    configuration = private / "apt.conf"
    configuration.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    return configuration


def _archive() -> str:
    """The address of the Debian archive among this machine's own apt sources."""
    listing = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    sources = tell("apt-get", "indextargets", "--format", listing, "Created-By: Packages").splitlines()
    system = platform.freedesktop_os_release()
    wanted = [system.get("VERSION_CODENAME"), "main"] if system["ID"] == "debian" else None
    for address, *part in map(str.split, sources):
        if part == wanted:
            return address
    raise UnavailableError("there is no Debian archive among this machine's apt sources")


def _make_skeleton(folder: Path) -> None:
    """The folders and links that a Debian system has before its first package."""
    for name in ("bin", "sbin", "lib"):
        (folder / "usr" / name).mkdir(parents=True)
        (folder / name).symlink_to(f"usr/{name}")
    for name in ("dev", "proc", "sys", "run", "root", "home", "tmp"):
        (folder / name).mkdir()
    (folder / "tmp").chmod(0o1777)
