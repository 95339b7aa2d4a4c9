"""What several processes report of the server that they share is reported once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator

import pytest

from s3_uploader.monitoring.said_by_any import SaidByAny

LIMIT, OTHER = "http://s3 does not know conditional writes.", "http://other does not know conditional writes."


@pytest.fixture
def said() -> Iterator[SaidByAny]:
    """One that does not wait."""
    made = SaidByAny(sleep=lambda seconds: None)
    yield made
    made.close()


def in_a_process(work: Callable[[], object]) -> int:
    """Do something in a process of its own; returns its exit code."""
    pid = os.fork()
    if not pid:
        code = 99
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def reported(said: SaidByAny, *sentences: str) -> list[str]:
    """What of these is reported."""
    return [sentence for sentence in sentences if said.is_news(sentence)]


def test_what_another_process_has_reported_is_not_repeated(said: SaidByAny) -> None:
    """A limit of the server is reported by the first process that meets it, and by no other."""

    def first() -> None:
        assert reported(said, LIMIT, LIMIT) == [LIMIT]

    assert in_a_process(first) == 0
    assert reported(said, LIMIT, OTHER) == [OTHER]


def test_a_process_that_is_stopped_silences_nobody(said: SaidByAny) -> None:
    """While another process holds the lock and hangs, a limit is reported, perhaps twice."""
    from_parent, to_child = os.pipe()
    from_child, to_parent = os.pipe()
    pid = os.fork()
    if not pid:
        fcntl.lockf(said._file.fileno(), fcntl.LOCK_EX)
        os.write(to_parent, b"!")
        os.close(to_child)
        os.read(from_parent, 1)
        os._exit(0)
    os.read(from_child, 1)
    assert reported(said, LIMIT, LIMIT) == [LIMIT, LIMIT]
    os.close(to_child)
    os.waitpid(pid, 0)
    assert reported(said, LIMIT, LIMIT) == [LIMIT]
    for descriptor in (from_parent, from_child, to_parent):
        os.close(descriptor)


def test_its_memory_is_bounded(said: SaidByAny) -> None:
    """After a thousand sentences none is noted any more, and each is reported."""
    many = [f"limit {number}" for number in range(1001)]
    assert reported(said, *many) == many
    assert reported(said, *many) == many[1000:]


def test_a_system_without_memory_silences_nobody(said: SaidByAny, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing can be noted, it is reported."""

    def fail(descriptor: int, data: bytes) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("s3_uploader.monitoring.said_by_any.write_all", fail)
    assert reported(said, LIMIT, LIMIT) == [LIMIT, LIMIT]
