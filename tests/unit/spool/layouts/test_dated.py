"""The layout ``dated``: what it recognises, in which order, and which directories may be removed."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core.control import why_settling
from s3_uploader.core.model import Candidate, Left
from s3_uploader.spool.layouts import dated
from s3_uploader.spool.layouts.base import EmptyDirectory, Globs
from s3_uploader.spool.layouts.dated import DatedLayout, epoch_function, period_function, utc_epoch
from s3_uploader.spool.root import SpoolRoot
from s3_uploader.spool.root import in_blocks as all_in_blocks
from tests.fakes import NO_GLOBS, NOW, Skips, write


def a_layout(*, globs: Globs = NO_GLOBS, timezone: str = "UTC") -> DatedLayout:
    """The layout as configured by default."""
    return DatedLayout(settle_seconds=10, globs=globs, epoch_of=epoch_function(timezone))


def scan(spool: Path, *, using: DatedLayout | None = None) -> tuple[list[Candidate], list[str], Skips]:
    """Candidates, empty directories, and what was skipped."""
    root, skips = SpoolRoot(str(spool)), Skips()
    found = list((using or a_layout()).scan(root, skips))
    root.close()
    files = [item for item in found if isinstance(item, Candidate)]
    return files, ["/".join(item.names) for item in found if isinstance(item, EmptyDirectory)], skips


class TestScan:
    def test_a_candidate(self, tmp_path: Path) -> None:
        """A file's key is its path, and its path says when its data begins and ends."""
        write(tmp_path / "bedroom/2020/09/13/12/26-topic.dat", "12345")
        (found,), _, _ = scan(tmp_path)
        assert found.key == found.path == "bedroom/2020/09/13/12/26-topic.dat"
        assert (found.location, found.size, found.mtime_ns) == ("bedroom", 5, (int(NOW) - 3600) * 10**9)
        assert (found.period_begin, found.period_end) == (NOW - 40, NOW + 20)

    def test_the_seed_example(self, tmp_path: Path) -> None:
        """Paths with a month 13 and an hour without its zero are candidates; no real date means no data time."""
        write(tmp_path / "kitchen/2020/13/29/6/54-topic.dat")
        (found,), _, _ = scan(tmp_path)
        assert (found.key, found.period_begin, found.period_end) == ("kitchen/2020/13/29/6/54-topic.dat", None, None)

    def test_minute_60(self, tmp_path: Path) -> None:
        """A minute that no hour has names no time either."""
        write(tmp_path / "a/2020/09/13/12/75-topic.dat")
        (found,), _, _ = scan(tmp_path)
        assert found.period_begin is None

    def test_oldest_first_across_locations(self, tmp_path: Path) -> None:
        """The oldest data comes first, whichever location it is from, by number and not by letter."""
        paths = [
            "b/2019/12/31/23/59-x.dat",
            "d/2020/2/1/0/0-x.dat",
            "c/2020/02/01/00/01-x.dat",
            "b/2020/02/01/6/00-x.dat",
            "a/2020/02/01/10/5-x.dat",
            "c/2020/10/01/00/00-x.dat",
        ]
        for path in reversed(paths):
            write(tmp_path / path)
        found, _, _ = scan(tmp_path)
        assert [item.path for item in found] == paths

    def test_what_is_not_of_the_layout(self, tmp_path: Path) -> None:
        """Everything else is left and reported with its reason."""
        for path in [
            "stray.dat",
            "a/readme",
            "a/20/x",
            "a/2020/jan/x",
            "a/2020/01/01/00/topic.dat",
            "a/2020/01/01/00/1-.dat",
            "a/2020/01/01/00/123-x.dat",
            "a/2020/01/01/00/00-x.dat.tmp",
            "a/2020/01/01/00/sub/00-x.dat",
        ]:
            write(tmp_path / path)
        (tmp_path / "a/2020/01/01/00/01-link.dat").symlink_to("/etc/passwd")
        (tmp_path / "link").symlink_to("/etc")
        os.mkfifo(tmp_path / "a/2020/01/01/00/02-fifo.dat")
        found, empty, skips = scan(tmp_path)
        assert (found, empty) == ([], [])
        reasons = skips.reasons()
        assert reasons.pop("a/2020/01/01/00/01-link.dat") is Left.SPECIAL
        assert reasons.pop("a/2020/01/01/00/02-fifo.dat") is Left.SPECIAL
        assert reasons.pop("link") is Left.SPECIAL
        assert set(reasons.values()) == {Left.UNMATCHED}
        assert set(reasons) == {
            "stray.dat",
            "a/readme",
            "a/20",
            "a/2020/jan",
            "a/2020/01/01/00/topic.dat",
            "a/2020/01/01/00/1-.dat",
            "a/2020/01/01/00/123-x.dat",
            "a/2020/01/01/00/00-x.dat.tmp",
            "a/2020/01/01/00/sub",
        }

    def test_odd_names(self, tmp_path: Path) -> None:
        """Spaces, newlines, escapes and bytes that are no text are part of a name like any other."""
        raw = os.fsencode(tmp_path) + b"/lo c\n/2020/01/01/00/"
        os.makedirs(raw)
        for name in (b"00-a b%\x1b[31m\n'\".dat", b"01-\xff\xfe.dat"):
            Path(os.fsdecode(raw + name)).write_bytes(b"")
        found, _, _ = scan(tmp_path)
        assert [os.fsencode(item.name) for item in found] == [b"00-a b%\x1b[31m\n'\".dat", b"01-\xff\xfe.dat"]

    def test_leftover(self, tmp_path: Path) -> None:
        """What a killed run had taken is a candidate under its original key, and so is a new file of that name."""
        hour = tmp_path / "a/2020/01/01/00"
        for name in (".05-x.dat.s3u", ".05-x.dat.s3u2", "05-x.dat"):
            write(hour / name)
        found, _, _ = scan(tmp_path)
        assert [item.name for item in found] == [".05-x.dat.s3u", ".05-x.dat.s3u2", "05-x.dat"]
        assert {item.key for item in found} == {"a/2020/01/01/00/05-x.dat"}

    def test_globs(self, tmp_path: Path) -> None:
        """What the configuration excludes is left."""
        write(tmp_path / "a/2020/01/01/00/00-x.dat")
        write(tmp_path / "a/2020/01/01/00/.01-y.dat.s3u")
        found, _, skips = scan(tmp_path, using=a_layout(globs=Globs(include=[], exclude=["*-y.dat"])))
        assert [item.name for item in found] == ["00-x.dat"]
        assert skips.seen == [("a/2020/01/01/00/.01-y.dat.s3u", Left.EXCLUDED, "")]

    def test_empty_directories(self, tmp_path: Path) -> None:
        """Empty directories are found at every level; the spool itself is none of them."""
        for path in ("a/2020/01/01/00", "b/2020/01", "c"):
            (tmp_path / path).mkdir(parents=True)
        assert sorted(scan(tmp_path)[1]) == ["a/2020/01/01/00", "b/2020/01", "c"]
        assert scan(tmp_path / "c")[1] == []

    def test_vanishes(self, tmp_path: Path) -> None:
        """A file that vanishes between listing and ``stat`` is reported as vanished, and no other is affected."""
        write(tmp_path / "a/2020/01/01/00/00-x.dat")
        second = write(tmp_path / "a/2020/01/01/00/01-x.dat")
        root, skips = SpoolRoot(str(tmp_path)), Skips()
        found = a_layout().scan(root, skips)
        next(found)
        second.unlink()
        assert list(found) == []
        assert skips.reasons() == {"a/2020/01/01/00/01-x.dat": Left.VANISHED}
        root.close()

    def test_bounded_blocks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Large hours are read in blocks, the smaller the more locations there are; no file is missed."""
        monkeypatch.setattr(dated, "BLOCK", 6)
        monkeypatch.setattr(dated, "_SMALLEST_BLOCK", 2)
        sizes = []

        def in_blocks(items: Iterator[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
            sizes.append(size)
            return all_in_blocks(items, size)

        monkeypatch.setattr(dated, "in_blocks", in_blocks)
        expected = {f"{place}/2020/01/01/00/{minute:02}-x.dat" for place in "abcd" for minute in range(7)}
        for path in expected:
            write(tmp_path / path)
        found, _, _ = scan(tmp_path)
        assert {item.path for item in found} == expected
        assert set(sizes) == {2}


class TestPruning:
    @pytest.mark.parametrize(
        ("path", "after"),
        [
            ("a/2020/09/13/12", "2020-09-13 13:00:10"),
            ("a/2020/9/13/6", "2020-09-13 07:00:10"),
            ("a/2020/09/13", "2020-09-14 00:00:10"),
            ("a/2020/02/29", "2020-03-01 00:00:10"),
            ("a/2020/09", "2020-10-01 00:00:10"),
            ("a/2020/12", "2021-01-01 00:00:10"),
            ("a/2020", "2021-01-01 00:00:10"),
        ],
    )
    def test_period_must_be_over(self, path: str, after: str) -> None:
        """A directory may be removed as soon as its hour, day, month or year has been over for the settle time."""
        at = datetime.datetime.fromisoformat(after + "+00:00").timestamp()
        names = tuple(path.split("/"))
        assert not a_layout().may_prune(names, now=at - 0.001, child=None, mtime=0)
        assert a_layout().may_prune(names, now=at, child=None, mtime=0)

    @pytest.mark.parametrize("path", ["a/2020/13", "a/2020/02/30", "a/2020/09/13/24", "a/9999", "a/2020/99/99/99"])
    def test_no_real_date(self, path: str) -> None:
        """A directory that names no real date has no period to wait for."""
        assert a_layout().may_prune(tuple(path.split("/")), now=NOW, child=None, mtime=NOW - 10)

    @pytest.mark.parametrize("path", ["a/2018/01/01/00", "a/2018/01", "a/2020/13"])
    def test_found_empty(self, path: str) -> None:
        """A directory that has just been made stays until its producer has had time for the first file."""
        may, names = a_layout().may_prune, tuple(path.split("/"))
        assert not may(names, now=NOW, child=None, mtime=NOW - 9.9)
        assert may(names, now=NOW, child=None, mtime=NOW - 10)
        assert may(names, now=NOW, child=(*names, "00"), mtime=NOW)
        assert not may(names, now=NOW, child=None, mtime=NOW + 200)
        assert may(names, now=NOW, child=None, mtime=NOW + 400)

    def test_location(self) -> None:
        """A location is removed a day after its last year, or after a day in which nothing was created in it."""
        new_year = utc_epoch(2021, 1, 1, 0)
        assert new_year is not None
        may = a_layout().may_prune
        assert not may(("a",), now=new_year + 86399, child=("a", "2020"), mtime=0)
        assert may(("a",), now=new_year + 86400, child=("a", "2020"), mtime=new_year + 86400)
        assert not may(("a",), now=NOW, child=None, mtime=NOW - 86399)
        assert may(("a",), now=NOW, child=None, mtime=NOW - 86400)
        assert may(("a",), now=NOW, child=("a", "odd"), mtime=NOW)

    def test_clock_set_back(self) -> None:
        """Where clocks are set back, a directory is removed only after the longer hour and the longer day."""
        berlin = a_layout(timezone="Europe/Berlin")
        end = datetime.datetime(2020, 10, 25, 2, 0, tzinfo=datetime.timezone.utc).timestamp()  # 03:00 CET
        assert not berlin.may_prune(("a", "2020", "10", "25", "02"), now=end, child=None, mtime=0)
        assert berlin.may_prune(("a", "2020", "10", "25", "02"), now=end + 3610, child=None, mtime=0)
        midnight = datetime.datetime(2020, 10, 25, 23, 0, tzinfo=datetime.timezone.utc).timestamp()  # 24:00 CET
        assert not berlin.may_prune(("a", "2020", "10", "25"), now=midnight, child=None, mtime=0)
        assert berlin.may_prune(("a", "2020", "10", "25"), now=midnight + 3610, child=None, mtime=0)

    def test_clock_set_back_by_two_hours(self) -> None:
        """The directory of a day stays as long as the day lasts, where that is 26 hours."""
        troll = a_layout(timezone="Antarctica/Troll")
        midnight = utc(2026, 10, 26, 0, 0)
        assert not troll.may_prune(("a", "2026", "10", "25"), now=midnight - 1, child=None, mtime=0)
        assert troll.may_prune(("a", "2026", "10", "25"), now=midnight + 10, child=None, mtime=0)

    def test_a_month_whose_end_is_skipped(self) -> None:
        """Where clocks are set forward at midnight, the directory of a month stays for its last hour, too."""
        asuncion = a_layout(timezone="America/Asuncion")
        end = utc(2023, 10, 1, 4, 0)  # 30 September lasts until 24:00 -04, which is 01:00 -03
        assert not asuncion.may_prune(("a", "2023", "09"), now=end - 1, child=None, mtime=0)
        assert asuncion.may_prune(("a", "2023", "09"), now=end + 10, child=None, mtime=0)


def utc(*numbers: int) -> float:
    """Seconds since the epoch."""
    return datetime.datetime(*numbers, tzinfo=datetime.timezone.utc).timestamp()  # type: ignore[arg-type, misc]


class TestPeriods:
    @pytest.mark.parametrize(
        ("zone", "numbers", "begin", "end"),
        [
            ("Europe/Berlin", (2020, 7, 1, 2, 30), utc(2020, 7, 1, 0, 30), utc(2020, 7, 1, 0, 31)),
            # 02:30 twice, as CEST and as CET
            ("Europe/Berlin", (2020, 10, 25, 2, 30), utc(2020, 10, 25, 0, 30), utc(2020, 10, 25, 1, 31)),
            # no 02:30: whoever counts on writes it at 03:30 CEST, whoever counts back at 01:30 CET
            ("Europe/Berlin", (2020, 3, 29, 2, 30), utc(2020, 3, 29, 0, 30), utc(2020, 3, 29, 1, 31)),
            # half an hour is set back, so that half an hour occurs twice
            ("Australia/Lord_Howe", (2020, 4, 5, 1, 15), utc(2020, 4, 4, 14, 15), utc(2020, 4, 4, 14, 16)),
            ("Australia/Lord_Howe", (2020, 4, 5, 1, 45), utc(2020, 4, 4, 14, 45), utc(2020, 4, 4, 15, 16)),
        ],
    )
    def test_a_minute_lasts_as_long_as_it_may(
        self, zone: str, numbers: tuple[int, int, int, int, int], begin: float, end: float
    ) -> None:
        """For a minute that occurs twice, or not at all, every interpretation counts."""
        period_of = period_function(zone)
        assert period_of is not None
        assert period_of(*numbers) == (begin, end)

    def test_what_is_no_date_has_no_period(self) -> None:
        """Such a path only carries no time; UTC has no odd hours."""
        period_of = period_function("Europe/Berlin")
        assert period_of is not None
        assert period_of(2020, 13, 29, 20, 46) is None
        assert period_function("UTC") is None

    @pytest.mark.parametrize("moment", [utc(2020, 10, 25, 0, 30, 20), utc(2020, 10, 25, 1, 30, 20)])
    def test_a_file_of_the_running_minute_is_not_settled(self, tmp_path: Path, moment: float) -> None:
        """Both times round, a file of the running minute is held back by its path, whatever its mtime is."""
        path = write(tmp_path / "a/2020/10/25/02/30-x.dat")
        os.utime(path, (0, 0))
        layout = DatedLayout(
            settle_seconds=10,
            globs=NO_GLOBS,
            epoch_of=epoch_function("Europe/Berlin"),
            period_of=period_function("Europe/Berlin"),
        )
        root = SpoolRoot(str(tmp_path))
        try:
            (found,) = layout.scan(root, lambda *skipped: None)
        finally:
            root.close()
        assert isinstance(found, Candidate)
        assert why_settling(found, 0, moment, 10)
        assert not why_settling(found, 0, utc(2020, 10, 25, 1, 31, 10), 10)


class TestEpochs:
    @given(st.datetimes(timezones=st.just(datetime.timezone.utc)))
    def test_utc_is_right(self, moment: datetime.datetime) -> None:
        """The arithmetic agrees with the standard library's for every hour there is."""
        moment = moment.replace(minute=0, second=0, microsecond=0)
        assert utc_epoch(moment.year, moment.month, moment.day, moment.hour) == moment.timestamp()

    @given(st.integers(0, 10000), st.integers(0, 13), st.integers(0, 32), st.integers(0, 25))
    def test_zones_agree_on_what_is_a_date(self, year: int, month: int, day: int, hour: int) -> None:
        """An invalid date is invalid in every time zone."""
        if utc_epoch(year, month, day, hour) is None:
            assert epoch_function("Asia/Tokyo")(year, month, day, hour) is None

    def test_named_zone(self) -> None:
        """Paths may be in local time; of an hour that comes twice the later one counts."""
        berlin = epoch_function("Europe/Berlin")
        assert berlin(2020, 7, 1, 2) == utc_epoch(2020, 7, 1, 0)
        assert berlin(2020, 10, 25, 2) == utc_epoch(2020, 10, 25, 1)
        assert berlin(1, 1, 1, 0) is None or isinstance(berlin(1, 1, 1, 0), float)

    def test_local_zone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """``local`` is the time zone of the machine."""
        import time

        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        try:
            assert epoch_function("local")(2020, 1, 1, 9) == utc_epoch(2020, 1, 1, 0)
        finally:
            monkeypatch.undo()
            time.tzset()

    def test_utc_needs_no_import(self) -> None:
        """UTC is its own function, by which the layout knows that no clock is set back."""
        assert epoch_function("UTC") is utc_epoch
