"""How many processors this process may use, and whether it is bound by the one that it uses."""

from __future__ import annotations

import os
import time

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
    """The quotas of the control groups (version 2) that this process is in, in processors."""
    try:
        with open(_OWN_GROUP, encoding="utf-8", errors="replace") as file:
            line = next((line for line in file if line.startswith("0::")), "")
    except OSError:
        return []
    found = []
    path = line.strip()[3:].strip("/")
    while True:
        try:
            with open(os.path.join(_CGROUPS, path, "cpu.max"), encoding="ascii") as file:
                quota, period = file.read(100).split()
                if quota != "max":
                    found.append(int(quota) / int(period))
        except (OSError, ValueError):
            pass
        if not path:
            return found
        path = os.path.dirname(path)
