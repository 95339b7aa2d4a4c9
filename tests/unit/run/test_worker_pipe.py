"""What the leader of a run and its workers say to each other."""

from __future__ import annotations

import os
import threading

import pytest

from s3_uploader.core.errors import StateError, StoreError
from s3_uploader.core.events import DirectoryPruned, Notice
from s3_uploader.core.meanings import notice_of_end
from s3_uploader.core.model import RunEnd
from s3_uploader.core.origins import Origin
from s3_uploader.run.worker import Telling
from s3_uploader.run.worker_pipe import Frames, send


def test_values_come_as_they_were_sent() -> None:
    """Events arrive in their order, with names of any bytes, however large a frame is."""
    read_from, write_to = os.pipe()
    events = [DirectoryPruned(f"/spool/\udcff{number}") for number in range(20_000)]

    def write() -> None:
        for value in ("ready", events, events[:1]):
            send(write_to, value)
        os.close(write_to)

    thread = threading.Thread(target=write)
    thread.start()
    frames = Frames(read_from)
    assert [frames.next(), frames.next(), frames.next()] == ["ready", events, events[:1]]
    with pytest.raises(EOFError):
        frames.next()
    thread.join()
    os.close(read_from)


def test_a_frame_that_was_cut() -> None:
    """What a process had not finished to say before it died is not taken for something."""
    read_from, write_to = os.pipe()
    os.write(write_to, b"\x00\x00\x00\x10abc")
    os.close(write_to)
    with pytest.raises(EOFError):
        Frames(read_from).next()
    os.close(read_from)


def test_the_end_of_a_run_is_told_by_its_leader() -> None:
    """A worker hands over everything but what ended its share: the leader hears of that in the outcome."""
    read_from, write_to = os.pipe()
    tell = Telling(write_to)
    tell(notice_of_end(RunEnd.DESTINATION, StoreError("denied", code="InvalidAccessKeyId", origin=Origin.CREDENTIALS)))
    tell(notice_of_end(RunEnd.STATE, StateError("full")))
    others = [Notice("warning", "names", about="names"), Notice("info", "nothing")]
    for notice in others:
        tell(notice)
    tell.flush()
    assert Frames(read_from).next() == others
    for descriptor in (read_from, write_to):
        os.close(descriptor)
