"""How many processors this process may use, and whether it is bound by the one that it uses."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

_CGROUPS = "/sys/fs/cgroup"
_OWN_GROUP = "/proc/self/cgroup"


def allowed() -> int:
    """How many processors may be used at once, by the affinity and by the quotas of all control groups above."""
    try:
        count = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        count = os.cpu_count() or 1
    quota = min(_quotas(), default=None)
    return max(1, count if quota is None else min(count, int(quota)))


class Effort:
    """Measures, from now on, the share of its time in which this process works or waits for a processor."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before = _busy_seconds()

    def share(self) -> float:
        """The share since this object was made; with several threads it may exceed 1."""
        passed = time.monotonic() - self._began
        return (_busy_seconds() - self._before) / passed if passed > 0 else 0.0


def _busy_seconds() -> float:
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            # Time on the processor, time on a run queue, both in nanoseconds (Documentation/scheduler/sched-stats).
            on_processor, waiting, _ = map(int, file.read(200).split())
            return (on_processor + waiting) / 1e9
    except (OSError, ValueError):
        return time.thread_time()


def _quotas() -> list[float]:
    """The quotas of the control groups that this process is in, in processors."""
    try:
        with open(_OWN_GROUP, encoding="utf-8", errors="replace") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file if line.count(":") >= 2]
    except OSError:
        return []
    found: list[float] = []
    for _, controllers, path in groups:
        if not controllers:
            found += _on_the_way_up(_CGROUPS, path, _quota)
        elif "cpu" in controllers.split(","):
            # Version 1 has a tree of groups for each set of controllers.
            found += _on_the_way_up(os.path.join(_CGROUPS, controllers), path, _quota_of_version_1)
    return found


def _on_the_way_up(tree: str, path: str, quota_of: Callable[[str], float]) -> Iterator[float]:
    path = path.strip("/")
    while True:
        with contextlib.suppress(OSError, ValueError):  # no such group here, or no quota
            yield quota_of(os.path.join(tree, path))
        if not path:
            return
        path = os.path.dirname(path)


def _quota(group: str) -> float:
    quota, period = _content(os.path.join(group, "cpu.max")).split()
    return int(quota) / int(period)


def _quota_of_version_1(group: str) -> float:
    quota = int(_content(os.path.join(group, "cpu.cfs_quota_us")))
    if quota < 0:
        raise ValueError("no quota")
    return quota / int(_content(os.path.join(group, "cpu.cfs_period_us")))


def _content(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read(100)
