"""The machine on which it was measured, and how much of it others used meanwhile."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterable
from dataclasses import dataclass

_TICKS = os.sysconf("SC_CLK_TCK")


def describe() -> dict[str, str]:
    """Processor, memory, kernel."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "memory": f"{memory / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
    }


@dataclass(frozen=True)
class Busy:
    """CPU seconds since some moment: of the whole machine, and of the processes that belong to the benchmark."""

    machine: float
    own: float

    @classmethod
    def now(cls, server_processes: Iterable[int]) -> Busy:
        """Read both; ``server_processes`` are the sink's."""
        with open("/proc/stat", encoding="ascii") as file:
            # user nice system idle iowait irq softirq steal guest guest_nice; the last two are in user and nice too.
            user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        own = sum(each.ru_utime + each.ru_stime for each in usage)
        return cls((user + nice + system + irq + softirq + steal) / _TICKS, own + sum(map(_cpu_of, server_processes)))

    def others_since(self, before: Busy, seconds: float) -> float:
        """The share of the machine (0 to 1) that others used since ``before``."""
        foreign = (self.machine - before.machine) - (self.own - before.own)
        return min(1.0, max(0.0, foreign / (seconds * (os.cpu_count() or 1)))) if seconds > 0 else 0.0


def _cpu_of(process: int) -> float:
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            # The second field, the program's name in parentheses, may hold spaces.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
