"""The promise behind all others, held against whatever comes: no byte is lost, nothing is replaced, runs converge.

A state machine drives producers, answers of the store, and a process that dies at any call that changes something on
the disk or in the ledger. After each step every content that is the last one of its file is on the disk or at the
destination.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from s3_uploader.core.errors import Scope
from s3_uploader.ledger import Ledger
from s3_uploader.run.disposition import FailurePolicy, SuccessPolicy
from s3_uploader.spool.move_target import MoveTarget
from s3_uploader.spool.root import original_name
from tests.fakes import FakeStore, Harness, Put, failing, out_of_time, stored_but_failing

NAMES = ["a/1", "a/2", "b/c/1", "x" * 255, "a/.1.s3u"]
MUTATORS = ["rename", "unlink", "rmdir", "link", "mkdir", "fsync"]


class Killed(BaseException):
    """The process is no more."""


class Kill:
    """Lets the process die before or after the n-th call that changes anything; after that nothing is done any more."""

    def __init__(self, countdown: int | None, *, after: bool, records: Any) -> None:
        self.countdown = countdown
        self.after = after
        self.dead = False
        self.patch = pytest.MonkeyPatch()
        for name in MUTATORS:
            self.patch.setattr(os, name, self.wrap(getattr(os, name)))
        for name in ("commit_batch", "remember"):
            self.patch.setattr(records, name, self.wrap(getattr(records, name)), raising=True)

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, at which the process may die."""

        def wrapper(*arguments: Any, **options: Any) -> Any:
            if self.dead:
                raise Killed
            if self.countdown is not None:
                self.countdown -= 1
                if self.countdown < 0 and not self.after:
                    self.dead = True
                    raise Killed
            result = real(*arguments, **options)
            if self.countdown is not None and self.countdown < 0:
                self.dead = True
                raise Killed
            return result

        return wrapper


def slow_down(store: FakeStore, asked: Put) -> None:
    """The store is too busy."""
    failing("SlowDown", retryable=True)(store, asked)


ANSWERS: dict[str, Callable[[FakeStore, Put], None]] = {
    "stored": lambda store, asked: store.store(asked),
    "refused": failing("KeyRefused"),
    "denied": failing("InvalidAccessKeyId", scope=Scope.DESTINATION),
    "busy": slow_down,
    "late": out_of_time,
    "lost": stored_but_failing,
}


_rename = os.rename
"""That of the producers, who live on when a run is killed at one of its calls."""


class Spool(RuleBasedStateMachine):
    """Producers, a store, and runs that die."""

    def __init__(self) -> None:
        super().__init__()
        # In memory, since the ledger waits for the disk at each commit.
        self.directory = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        self.moved = self.directory / "moved"
        self.ledger: Ledger | None = None
        self.counter = 0
        self.last: dict[str, bytes] = {}
        self.delivered: set[bytes] = set()

    @initialize(real_ledger=st.booleans(), disposition=st.sampled_from(["delete", "move"]))
    def begin(self, real_ledger: bool, disposition: str) -> None:
        """Choose a ledger and what becomes of files."""
        if real_ledger:
            self.ledger = Ledger.open(str(self.directory / "ledger"), clock=lambda: self.harness.clock.seconds)
        self.harness = Harness(self.directory, records=self.ledger)
        if disposition == "move":
            self.harness.on_success = SuccessPolicy(move_to=MoveTarget(str(self.moved / "good")))
            self.harness.on_failure = FailurePolicy(move_to=MoveTarget(str(self.moved / "bad")), attempts=2)

    # ---------------------------------------------------------------------------------------------- producers

    def content(self) -> bytes:
        """Never the same twice, always of the same length."""
        self.counter += 1
        return f"{self.counter:08}".encode()

    def settle(self, path: Path) -> None:
        """The file is old enough."""
        os.utime(path, (self.harness.clock.seconds - 100,) * 2)

    @rule(name=st.sampled_from(NAMES))
    def write(self, name: str) -> None:
        """A producer writes a file, or writes it anew in place."""
        path = self.harness.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = self.content()
        with path.open("r+b" if path.exists() else "wb") as file:
            file.write(content)
            file.truncate()
        self.settle(path)
        self.last[str(path)] = content

    @rule(name=st.sampled_from(NAMES))
    def replace(self, name: str) -> None:
        """A producer replaces a file by rename."""
        path = self.harness.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = self.directory / "new"
        content = self.content()
        new.write_bytes(content)
        self.settle(new)
        self.last[str(path)] = content
        _rename(new, path)

    def producer_action(self, name: str, kind: str) -> Callable[[], None]:
        """Something that a producer does to a file while it is uploaded."""

        def act() -> None:
            path = self.harness.base / name
            if kind == "write":
                before = path.stat() if path.exists() else None
                self.write(name)
                if before is not None:
                    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            elif kind == "replace":
                self.replace(name)
            elif kind == "touch" and path.exists():
                os.utime(path)

        return act

    # ---------------------------------------------------------------------------------------------- runs

    @rule(
        answers=st.lists(st.sampled_from(sorted(ANSWERS)), max_size=4),
        kill=st.none() | st.integers(0, 25),
        after=st.booleans(),
        action=st.none()
        | st.tuples(
            st.sampled_from(["during_body", "before_answer", "after_answer"]),
            st.sampled_from(NAMES),
            st.sampled_from(["write", "replace", "touch"]),
        ),
    )
    def run(
        self,
        answers: list[str],
        kill: int | None,
        after: bool,
        action: tuple[str, str, str] | None,
    ) -> None:
        """A run, with whatever the store answers, whatever a producer does, and perhaps its end."""
        store = self.harness.store
        queue = list(answers)
        store.any_fault = lambda store, asked: ANSWERS[queue.pop(0) if queue else "stored"](store, asked)
        if action is not None:
            moment, name, kind = action
            key = "/".join((*name.split("/")[:-1], original_name(name.split("/")[-1])))
            real = self.producer_action(name, kind)
            getattr(store, moment)[key] = real
        killing = Kill(kill, after=after, records=self.harness.records)
        try:
            self.harness.run()
        except Killed:
            pass
        finally:
            killing.patch.undo()
            for hooks in (store.during_body, store.before_answer, store.after_answer):
                hooks.clear()
        self.harness.clock.seconds += 7 * 3600
        for path in self.harness.base.rglob("*"):
            if path.is_file():
                self.settle(path)

    @precondition(lambda self: self.last)
    @rule()
    def runs_converge(self) -> None:
        """Undisturbed runs come to an end: all they leave is in conflict with what is there; one more does nothing."""
        store = self.harness.store
        store.any_fault = None
        for _ in range(6):
            self.harness.run()
            self.harness.clock.seconds += 7 * 3600
        for name in self.harness.names():
            path = Path(name)
            key = str(path.with_name(original_name(path.name)))
            assert store.objects[key] != (self.harness.base / name).read_bytes()
        before = dict(store.objects)
        names = self.harness.names()
        if not names:
            puts = len(store.puts)
            assert self.harness.run().shipped == 0
            assert len(store.puts) == puts
        assert store.objects == before

    # ---------------------------------------------------------------------------------------------- what holds

    @invariant()
    def nothing_is_lost(self) -> None:
        """The last content of each file is on the disk or at the destination."""
        kept = {path.read_bytes() for path in self.directory.rglob("*") if path.is_file() and path.name != "ledger"}
        kept |= set(self.harness.store.objects.values()) if self.last else set()
        lost = {path: content for path, content in self.last.items() if content not in kept}
        assert not lost

    @invariant()
    def nothing_is_replaced(self) -> None:
        """What was delivered stays at the destination: a later file of the same name does not take its place."""
        at_destination = set(self.harness.store.objects.values()) if self.last else set()
        assert self.delivered <= at_destination
        on_disk = {path.read_bytes() for path in self.directory.rglob("*") if path.is_file() and path.name != "ledger"}
        self.delivered |= (set(self.last.values()) & at_destination) - on_disk

    def teardown(self) -> None:
        """Tidy up."""
        if self.ledger is not None:
            self.ledger.close()
        shutil.rmtree(self.directory)


TestSpool = Spool.TestCase
TestSpool.settings = settings(stateful_step_count=15, suppress_health_check=list(HealthCheck))
