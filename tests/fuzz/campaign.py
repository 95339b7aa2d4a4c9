"""Runs a parser on many inputs: it ends without an exception, in time that grows no faster than the input."""

from __future__ import annotations

import contextlib
import signal
import time
import traceback
from collections.abc import Iterator

import msgspec

from tests.fuzz.mutation import Mutator
from tests.fuzz.targets import Target

_LONGEST_SECONDS = 20
_ALLOWANCE = 0.05
_SHOWN = 400


class Fault(msgspec.Struct, frozen=True):
    """An input that a parser did not take, and what came of it."""

    data: bytes
    what: str


class TooSlow(Exception):
    """An input took longer than any may."""


def campaign(target: Target, *, inputs: int, seed: int, most_faults: int = 5) -> tuple[list[Fault], float]:
    """So many inputs; returns the faults, each of another kind, and the longest time of processor that one took."""
    faults: dict[str, Fault] = {}
    longest = 0.0
    stream = Mutator(target.examples, seed=seed).inputs()
    with _interrupted_when_too_slow():
        for _ in range(inputs):
            data = next(stream)
            what, seconds = _tried(target, data)
            longest = max(longest, seconds)
            if what:
                # One fault for each place it comes from.
                faults.setdefault(what.rpartition("\n  File ")[2][:120] or what[:60], Fault(data, what))
                if len(faults) >= most_faults:
                    break
    return list(faults.values()), longest


def _tried(target: Target, data: bytes) -> tuple[str, float]:
    """What is wrong, empty if nothing is; and the time it took."""
    allowed = _ALLOWANCE + target.microseconds_a_byte * len(data) / 1e6
    seconds = 0.0
    # A machine that is busy may take long once, not three times.
    for _ in range(3):
        signal.setitimer(signal.ITIMER_VIRTUAL, _LONGEST_SECONDS)
        began = time.thread_time()
        try:
            target.parse(data)
        except TooSlow:
            return f"still at work after {_LONGEST_SECONDS} s on {len(data)} bytes", float(_LONGEST_SECONDS)
        except Exception:
            return traceback.format_exc(), time.thread_time() - began
        seconds = time.thread_time() - began
        if seconds <= allowed:
            return "", seconds
    return f"{seconds:.3f} s for {len(data)} bytes", seconds


@contextlib.contextmanager
def _interrupted_when_too_slow() -> Iterator[None]:
    def interrupt(number: int, frame: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def shown(fault: Fault) -> str:
    """A fault for a person, with an input that can be pasted into a test."""
    data = fault.data if len(fault.data) <= _SHOWN else fault.data[:_SHOWN] + b"..."
    return f"{data!r} ({len(fault.data)} bytes)\n{fault.what}"
