"""Measures how much memory this process may still take: the machine's, the control group's, the process limit's."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Optional, Tuple, Union

StrPath = Union[str, Path]


def available_memory(root: StrPath = "/") -> Optional[int]:
    """The bytes that this process can still take before something is killed or refused; None if nothing says so.

    It is the smallest of what the kernel estimates (MemAvailable), what the memory control groups of this process have
    left (versions 1 and 2, cache counted as free), and what RLIMIT_AS leaves.
    """
    base = Path(root)
    return min((max(0, left) for left in _remainders(base)), default=None)


def _remainders(base: Path) -> Iterator[int]:
    for line in _lines(base / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
    for line in _lines(base / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
            yield from _group_remainders(base / "sys/fs/cgroup", path, names)
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _group_remainders(base / "sys/fs/cgroup/memory", path, names)
    yield from _address_space(base)


def _group_remainders(mount: Path, path: str, names: Tuple[str, str, str]) -> Iterator[int]:
    """What the control group and each of its parents have left."""
    limit_file, usage_file, cache_key = names
    group = mount / path.strip("/")
    for folder in (group, *group.parents):
        limit, usage = _number(folder / limit_file), _number(folder / usage_file)
        if limit is not None and usage is not None:
            yield limit - usage + _cache(folder, cache_key)
        if folder == mount:
            return


def _cache(folder: Path, key: str) -> int:
    for line in _lines(folder / "memory.stat"):
        if line.split()[0] == key:
            return int(line.split()[1])
    return 0


def _address_space(base: Path) -> Iterator[int]:
    try:
        import resource
    except ImportError:  # not a Unix
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    taken = _lines(base / "proc/self/statm")
    if limit != resource.RLIM_INFINITY and taken:
        yield limit - int(taken[0].split()[0]) * resource.getpagesize()


def _number(path: Path) -> Optional[int]:
    """The number in a file; None without such a file, and for "max"."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _lines(path: Path) -> Tuple[str, ...]:
    try:
        return tuple(line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip())
    except OSError:
        return ()
