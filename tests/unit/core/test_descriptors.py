"""How many files and connections a run may have open."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from s3_uploader.core.descriptors import raise_limit, room, share


@pytest.mark.parametrize("descriptors", [0, 1, 6, 100, 200, 1000, 65536])
@pytest.mark.parametrize("connections", [1, 2, 256])
def test_files_and_connections_fit_together(descriptors: int, connections: int) -> None:
    """However few there are, something can go on; however many, no more connections than wanted."""
    files, for_connections = share(descriptors, connections=connections)
    assert 1 <= for_connections <= connections
    assert files >= 2
    assert files + for_connections <= max(descriptors, 3)


def test_many_descriptors_limit_nothing() -> None:
    """Where there are enough a run has the connections that it is configured for."""
    assert share(1000, connections=256)[1] == 256


def test_what_is_open_already_counts() -> None:
    """A program with many files open leaves fewer for the run in it."""
    before = room()
    mine = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    try:
        assert room() == before - len(mine)
    finally:
        for descriptor in mine:
            os.close(descriptor)


def test_the_soft_limit_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program takes what it may have, within reason; one that may not have more goes on with what it has."""
    limits = [(1024, 4096)]
    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[0])
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: taken.append(wanted))
    raise_limit()
    limits[0] = (1024, 10**9)
    raise_limit()
    limits[0] = (1024, 1024)
    raise_limit()
    limits[0] = (100_000, 200_000)
    raise_limit()
    assert taken == [(4096, 4096), (65536, 10**9)]

    def refuse(_: int, __: object) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    limits[0] = (1024, 4096)
    raise_limit()


def test_limits_that_may_not_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sandbox that refuses the question a run goes on with what is usual."""

    def refuse(_: int) -> tuple[int, int]:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(resource, "getrlimit", refuse)
    raise_limit()
    assert 0 < room() < 1024
