"""A file that cannot be shipped: it costs only itself, waits longer each time, and is shipped once it can be."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest

from tests.e2e.site import Site, settle
from tests.servers.fault_script import error
from tests.servers.fault_server import FaultServer

POISON = "bathroom/2020/11/29/10/38-topic.dat"
LONGEST_PAUSE = 6 * 3600 * 1.5
GOOD = [f"bedroom/2020/11/29/20/{minute:02d}-topic.dat" for minute in range(10)]


@pytest.fixture
def poisoned(site: Site, fault_server: FaultServer) -> Site:
    """Ten good files and one that S3 refuses as often as it is asked."""
    site.ship_to(fault_server)
    site.file(POISON, b"poison")
    for path in GOOD:
        site.file(path, path.encode())
    fault_server.faults.add(error("InvalidArgument").only(key=POISON, times=None))
    return site


def epoch(text: str) -> float:
    """Seconds since the epoch of a time as the program writes it for machines."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def test_a_poison_file_costs_only_itself(poisoned: Site, fault_server: FaultServer) -> None:
    """All other files are shipped; the poison file stays, exit code 1 as long as it does, and status names it."""
    assert poisoned.run().code == 1
    assert poisoned.left() == {POISON: b"poison"}
    assert sorted(fault_server.objects()) == GOOD
    status = poisoned.status()
    assert status["failing_files"] == 1
    (failing,) = status["failing"]
    assert (failing["path"], failing["attempts"], failing["code"]) == (POISON, 1, "InvalidArgument")
    assert "InvalidArgument" in failing["message"]
    assert status["backlog"][0]["files"] == 1


def test_it_waits_before_it_is_tried_again(poisoned: Site, fault_server: FaultServer) -> None:
    """In the minute after its failure it is not tried again; the others go on, and a quiet run has nothing to mail."""
    poisoned.run()
    poisoned.file(GOOD[0], b"more")
    fault_server.faults.clear()
    fault_server.store.buckets[fault_server.bucket].clear()
    fault_server.forget_requests()
    finished = poisoned.run()
    assert finished.code == 1
    assert fault_server.requests_of("PutObject", POISON) == []
    assert fault_server.objects() == {GOOD[0]: b"more"}
    assert "1 waiting" in finished.sentences("INFO")[-1]
    assert finished.sentences("WARNING") == []


def test_a_run_that_only_waits_says_why_it_ends_with_1(poisoned: Site) -> None:
    """No run ends with another code than 0 without a line that says why; --quiet leaves it out, too."""
    poisoned.run()
    finished = poisoned.run()
    assert finished.code == 1
    (sentence,) = finished.sentences("INFO")
    assert sentence.endswith("; left: 1 waiting.")
    assert poisoned.run("run", "--quiet").stderr == ""


def test_the_pauses_grow(
    poisoned: Site,
    fault_server: FaultServer,
    clock_offset: Callable[[float], dict[str, str]],
    effort: Callable[[int, int], int],
) -> None:
    """Each failure makes the pause longer, from about a minute up to six hours: there it is after ten of them."""
    offset = 0.0
    pauses = []
    attempts = effort(6, 12)
    for attempt in range(1, attempts + 1):
        finished = poisoned.run(environment=clock_offset(offset))
        assert finished.code == 1, finished.stderr
        pause = LONGEST_PAUSE
        if attempt % effort(5, 1) < 2:
            (failing,) = poisoned.status()["failing"]
            assert failing["attempts"] == attempt
            pause = epoch(failing["next_try_at"]) - epoch(failing["last_failed_at"])
            pauses.append(pause)
        # The server knows its own time; a request from the future is refused for that, so its clock goes along.
        offset += pause + 1
        fault_server.clock_offset_seconds = offset
    assert 20 <= pauses[0] <= 120
    assert max(pauses) <= LONGEST_PAUSE
    assert min(pauses[-2:]) >= effort(300, 3600)


def test_it_is_shipped_once_the_cause_is_gone(
    poisoned: Site, fault_server: FaultServer, clock_offset: Callable[[float], dict[str, str]]
) -> None:
    """When the pause is over and the cause is gone, the file is shipped, and nothing fails any more."""
    poisoned.run()
    fault_server.faults.clear()
    fault_server.clock_offset_seconds = 300
    assert poisoned.run(environment=clock_offset(300)).code == 0
    assert poisoned.left() == {}
    assert fault_server.objects()[POISON] == b"poison"
    assert poisoned.status()["failing_files"] == 0


def test_a_file_that_was_touched_is_tried_at_once(poisoned: Site, fault_server: FaultServer) -> None:
    """A changed file is another file: it does not wait for the old one's pause."""
    poisoned.run()
    fault_server.faults.clear()
    settle(poisoned.spool / POISON, age=1800)
    assert poisoned.run().code == 0
    assert poisoned.left() == {}


def test_a_failing_file_that_was_removed_is_forgotten(poisoned: Site) -> None:
    """Somebody who removes the file has solved the problem: exit code 0, and status names nothing."""
    poisoned.run()
    (poisoned.spool / POISON).unlink()
    assert poisoned.run().code == 0
    assert poisoned.status()["failing_files"] == 0


def test_on_failure_move_to(poisoned: Site) -> None:
    """With on_failure a file that cannot be shipped is moved away under its path, and the log says where to."""
    failed = poisoned.place / "failed"
    poisoned.settings["on_failure"] = {"move_to": str(failed)}
    finished = poisoned.run()
    assert finished.code == 1
    assert poisoned.left() == {}
    assert (failed / POISON).read_bytes() == b"poison"
    assert finished.sentences("WARNING")[0].endswith(f"The file was moved to {failed}/{POISON}.")
    assert poisoned.run().code == 0


def test_on_failure_move_to_the_spool_itself(poisoned: Site) -> None:
    """A queue that resubmits what fails names the spool: the file is there again, and waits for its next try."""
    claims = poisoned.place / "claims"
    poisoned.settings |= {"claim_dir": str(claims), "on_failure": {"move_to": str(poisoned.spool), "attempts": 3}}
    for waiting in (0, 1):
        assert poisoned.run().code == 1
        assert poisoned.left() == {POISON: b"poison"}
        assert list(claims.iterdir()) == []
        (failing,) = poisoned.status()["failing"]
        assert (failing["path"], failing["attempts"]) == (POISON, 1), waiting


def test_on_success_move_to(poisoned: Site) -> None:
    """With on_success files that were shipped are moved to a directory instead of being deleted."""
    done = poisoned.place / "done"
    poisoned.settings["on_success"] = {"move_to": str(done)}
    assert poisoned.run().code == 1
    assert sorted(str(path.relative_to(done)) for path in done.rglob("*.dat")) == GOOD
    assert poisoned.left() == {POISON: b"poison"}


def test_on_success_keep(site: Site, fault_server: FaultServer) -> None:
    """Files that are kept are shipped once, and again when they change, or when they belong under other keys."""
    site.ship_to(fault_server, on_success="keep", on_conflict="overwrite")
    file = site.file(GOOD[0], b"first")
    assert site.run().code == 0
    assert file.read_bytes() == b"first"
    fault_server.forget_requests()
    assert site.run().code == 0
    assert not fault_server.requests_of("PutObject")
    site.file(GOOD[0], b"second")
    assert site.run().code == 0
    assert fault_server.objects() == {GOOD[0]: b"second"}
    site.settings["key_prefix"] = "later/"
    assert "1 file (6 B) would be shipped" in site.run("run", "--dry-run").stdout
    finished = site.run()
    assert finished.code == 0
    assert "The destination has changed, so 1 kept file will be uploaded again." in finished.stderr
    assert fault_server.objects() == {GOOD[0]: b"second", f"later/{GOOD[0]}": b"second"}
    fault_server.forget_requests()
    assert site.run().code == 0
    assert not fault_server.requests_of("PutObject")


class TestConflicts:
    """The key is taken by other content."""

    @pytest.fixture
    def taken(self, site: Site, fault_server: FaultServer) -> Site:
        """A file whose key holds something else."""
        site.ship_to(fault_server)
        site.file(GOOD[0], b"ours")
        fault_server.put(GOOD[0], b"theirs")
        return site

    def test_fail(self, taken: Site, fault_server: FaultServer) -> None:
        """By default neither is touched: exit code 1, and a message with the path, the key and what to do."""
        finished = taken.run()
        assert finished.code == 1
        assert taken.left() == {GOOD[0]: b"ours"}
        assert fault_server.objects() == {GOOD[0]: b"theirs"}
        (warning,) = finished.sentences("WARNING")
        assert f"{taken.spool}/{GOOD[0]} to {fault_server.bucket}/{GOOD[0]}: " in warning
        assert "on_conflict" in warning

    def test_moved(self, taken: Site, fault_server: FaultServer) -> None:
        """One that is moved away is not called kept."""
        taken.settings["on_failure"] = {"move_to": str(taken.place / "failed")}
        (warning,) = taken.run().sentences("WARNING")
        assert warning.endswith(f"The file was moved to {taken.place}/failed/{GOOD[0]}.")
        assert "kept" not in warning
        assert fault_server.objects() == {GOOD[0]: b"theirs"}

    def test_overwrite(self, taken: Site, fault_server: FaultServer) -> None:
        """``overwrite`` replaces the object."""
        taken.settings["on_conflict"] = "overwrite"
        assert taken.run().code == 0
        assert fault_server.objects() == {GOOD[0]: b"ours"}
        assert taken.left() == {}

    def test_keep_both(self, taken: Site, fault_server: FaultServer) -> None:
        """``keep-both`` stores ours under a second key, which the log and the history name."""
        taken.settings["on_conflict"] = "keep-both"
        finished = taken.run()
        assert finished.code == 0
        objects = fault_server.objects()
        assert objects.pop(GOOD[0]) == b"theirs"
        ((second, content),) = objects.items()
        assert content == b"ours"
        assert second.startswith(GOOD[0].removesuffix(".dat") + "~")
        assert second in finished.stderr
        assert [row["key"] for row in taken.history()] == [second]
        assert taken.left() == {}

    def test_the_same_content_is_success(self, taken: Site, fault_server: FaultServer) -> None:
        """If the object is what we have, the file is done: no replacement, and the line says that it was there."""
        fault_server.put(GOOD[0], b"ours")
        before = len(fault_server.replacements)
        finished = taken.run()
        assert finished.code == 0
        assert taken.left() == {}
        assert len(fault_server.replacements) == before
        assert f"{taken.spool}/{GOOD[0]} was in {fault_server.bucket} already, as " in finished.stderr
