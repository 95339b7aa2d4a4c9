"""The audit's rules, without a destination: how rows and entries compare, how streams become pairs, what is told."""

from __future__ import annotations

import errno
import itertools
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.config import from_mapping
from s3_uploader.core.errors import Scope, StateError, StoreError
from s3_uploader.core.model import Proof
from s3_uploader.inspection.audit import Audit, Discrepancy, Kind, Summary, spool
from s3_uploader.inspection.audit.discrepancies import CLOCKS_DIFFER, judge
from s3_uploader.inspection.audit.merging import Unordered, Wanted, common_directory, pairs, sorted_on_disk
from s3_uploader.inspection.audit.spool import audit_spool
from s3_uploader.ledger import Ledger, ShippedRow
from s3_uploader.ledger.schema import APPLICATION_ID, MIGRATIONS
from s3_uploader.ledger.snapshot import Bounds, Snapshot, SpoolFile
from s3_uploader.run.place import open_place
from s3_uploader.stores.listing import CannotList, Entry, LookDenied, key_order
from s3_uploader.stores.local.listing import LocalInventory
from s3_uploader.stores.s3.listing import parse_iso, parse_page
from tests.fakes import write
from tests.ledger_values import NOW, shipped

MD5 = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2


def row(key: str = "a", **changes: object) -> ShippedRow:
    """A file that was shipped."""
    values: dict = {"key": key, "size": 5, "checksum": "crc32:AAAAAA==", "etag": MD5, "version_id": ""}
    return shipped(key, **{**values, **changes})


def entry(key: str = "a", **changes: object) -> Entry:
    """What is under its key when nothing happened to it."""
    values: dict = {"key": key, "size": 5, "etag": MD5, "modified": NOW - 1}
    return Entry(**{**values, **changes})


# ------------------------------------------------------------------------------------------------ judgement

LATER = NOW + CLOCKS_DIFFER + 1


@pytest.mark.parametrize(
    ("ours", "there", "kind", "same"),
    [
        (row(), None, Kind.MISSING, None),
        (row(), entry(), None, True),
        (row(), entry(size=6), Kind.SIZE, False),
        (row(stored_size=3, encoding="gzip"), entry(size=3), None, True),
        (row(stored_size=3, encoding="gzip"), entry(size=5), Kind.SIZE, False),
        (row(), entry(etag=MD5.upper()), None, True),
        (row(), entry(modified=None), None, True),
        (row(), entry(modified=LATER - 2), None, True),
        (row(), entry(modified=LATER), Kind.REWRITTEN, True),
        (row(mtime_ns=int(LATER * 1e9)), entry(modified=LATER), None, True),
        (row(mtime_ns=int(LATER * 1e9)), entry(modified=LATER + CLOCKS_DIFFER + 1), Kind.REWRITTEN, True),
        (row(version_id="1"), entry(version_id="2"), Kind.REWRITTEN, True),
        (row(version_id="1"), entry(version_id="1"), None, True),
        (row(), entry(etag=OTHER), Kind.REPLACED, None),
        (row(proof=Proof.MD5), entry(etag=OTHER), Kind.CONTENT, False),
        (row(), entry(etag=OTHER, checksums={"crc32": "AAAAAA=="}), None, True),
        (row(), entry(etag=OTHER, checksums={"crc32": "BBBBBB=="}), Kind.CONTENT, False),
        (row(), entry(checksums={"crc32": "BBBBBB=="}), Kind.CONTENT, False),
        (row(), entry(etag=OTHER, checksums={"sha256": "x"}), Kind.REPLACED, None),
        (row(etag=f"{MD5}-3"), entry(etag=OTHER), None, None),
        (row(etag=f"{MD5}-3"), entry(etag=OTHER, modified=LATER), Kind.REPLACED, None),
        (row(etag=f"{MD5}-3"), entry(etag=f"{OTHER}-3"), Kind.REPLACED, None),
        (row(etag=f"{MD5}-3"), entry(etag=f"{MD5}-3"), None, True),
        (row(etag=""), entry(), None, None),
        (row(etag=""), entry(modified=LATER), Kind.REPLACED, None),
        (row(), entry(etag=""), None, None),
        (row(checksum=f"md5:{MD5}", etag=f"{OTHER}-2"), entry(), None, True),
        (row(checksum="", etag=""), entry(etag="", modified=None), None, None),
        (row(checksum=f"sha256:{MD5}", etag=MD5), entry(etag="", checksums={"sha256": MD5}), None, True),
    ],
)
def test_judgement(ours: ShippedRow, there: Entry | None, kind: Kind | None, same: bool | None) -> None:
    """What is there is the same, different, or of unknown content; nothing is called the same without a reason."""
    judgement = judge(ours, there)
    assert (judgement.kind, judgement.same) == (kind, same)


# ------------------------------------------------------------------------------------------------ pairs

KEYS = st.lists(st.text(alphabet="ab/.é\uffee😀\udc80", min_size=1, max_size=6), unique=True, max_size=30)


@given(KEYS, KEYS)
def test_every_row_finds_its_entry(mine: list[str], theirs: list[str]) -> None:
    """Two sorted streams are merged: each row is paired with the entry of its key, if there is one."""
    rows = [row(key) for key in sorted(mine, key=key_order)]
    entries = [entry(key) for key in sorted(theirs, key=key_order)]
    found = list(pairs(rows, iter(entries), Wanted()))
    assert [(one.key, other.key if other else None) for one, other in found] == [
        (one.key, one.key if one.key in theirs else None) for one in rows
    ]


@given(KEYS)
def test_sorted_on_disk(keys: list[str]) -> None:
    """A listing without order comes back in order, with everything that it says."""
    entries = [entry(key, size=number, modified=None) for number, key in enumerate(keys)]
    assert list(sorted_on_disk(iter(entries))) == sorted(entries, key=lambda each: key_order(each.key))


def test_a_listing_without_order_is_noticed() -> None:
    """An entry that comes too late ends the pairing, before its row is called missing for it."""
    found = pairs([row("a"), row("c")], iter([entry("b"), entry("a")]), Wanted())
    assert next(found)[1] is None
    with pytest.raises(Unordered):
        next(found)


@given(KEYS)
def test_the_common_directory(keys: list[str]) -> None:
    """Every key lies in the directory that the first and the last have in common."""
    ordered = sorted(keys, key=key_order)
    if ordered:
        directory = common_directory(ordered[0], ordered[-1])
        assert directory == "" or directory.endswith("/")
        assert all(key.startswith(directory) for key in keys)


# ------------------------------------------------------------------------------------------------ the audit


class Fake:
    """An inventory in memory.

    :param refusals: what a look at a key raises.
    """

    name = "bucket"
    concurrency = 4

    def __init__(self, *entries: Entry, cheap: bool = True) -> None:
        self.listing = list(entries)
        self.looked = {each.key: each for each in entries}
        self.looks_are_cheap = cheap
        self.lists_in_order = True
        self.refusals: dict[str, StoreError] = {}
        self.no_listing: StoreError | None = None
        self.looks: list[tuple[str, bool]] = []

    def open(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def address(self, key: str) -> str:
        """As a bucket would."""
        return f"bucket/{key}"

    def entries(self, prefix: str, *, wanted: Callable[[], str]) -> Iterator[Entry]:
        """As they were given."""
        if self.no_listing is not None:
            raise self.no_listing
        yield from [each for each in self.listing if each.key.startswith(prefix)]

    def look(self, key: str, *, content: bool) -> Entry | None:
        """What `looked` has."""
        self.looks.append((key, content))
        if key in self.refusals:
            raise self.refusals[key]
        return self.looked.get(key)


class Result:
    """What an audit told."""

    def __init__(
        self,
        inventory: Fake,
        rows: list[ShippedRow],
        *,
        deep: bool = False,
        until: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.findings: list[Discrepancy] = []
        self.notices: list[str] = []
        self.progress: list[int] = []
        rows = sorted(rows, key=lambda each: key_order(each.key))
        bounds = Bounds(len(rows), rows[0].key, rows[-1].key) if rows else Bounds()
        audit = Audit(
            inventory,
            deep=deep,
            tell=self.findings.append,
            notice=self.notices.append,
            progress=self.progress.append,
            until=until,
            clock=clock,
        )
        self.summary: Summary = audit.run(iter(rows), bounds)

    @property
    def told(self) -> list[tuple[str, Kind]]:
        """Key and kind of each finding."""
        return [(finding.row.key, finding.kind) for finding in self.findings]


def denied(message: str = "Forbidden") -> StoreError:
    """What a HEAD without permission to read is answered."""
    return LookDenied(message, code="403")


def test_a_listing_is_enough() -> None:
    """Where ETags agree nobody is asked for a single key."""
    inventory = Fake(entry("a"), entry("b"), entry("unknown"))
    result = Result(inventory, [row("a"), row("b")])
    assert (result.told, inventory.looks) == ([], [])
    assert (result.summary.keys, result.summary.same, result.summary.problems) == (2, 2, 0)
    assert result.progress == [1, 2]


def test_nothing_is_called_missing_because_of_a_listing_alone() -> None:
    """What a listing leaves out is asked for once more."""
    inventory = Fake(entry("a"))
    inventory.looked["b"] = entry("b")
    result = Result(inventory, [row("a"), row("b"), row("c")])
    assert result.told == [("c", Kind.MISSING)]
    assert sorted(key for key, _ in inventory.looks) == ["b", "c"]  # looks overlap


def test_nothing_is_called_different_because_of_a_listing_alone() -> None:
    """A listing that is older than the object, as an inventory may be, is no finding: the destination is asked."""
    inventory = Fake(entry("a", size=6), entry("b", etag=OTHER), entry("c", size=7))
    inventory.looked["a"], inventory.looked["b"] = entry("a"), entry("b")
    result = Result(inventory, [row("a"), row("b", proof=Proof.MD5), row("c")])
    assert result.told == [("c", Kind.SIZE)]
    assert sorted(key for key, _ in inventory.looks) == ["a", "b", "c"]  # looks overlap
    assert result.summary.same == 2


def test_where_the_listing_cannot_say_a_look_does() -> None:
    """A checksum settles what an ETag of another form leaves open."""
    inventory = Fake(entry("a", etag=f"{OTHER}-2"), entry("b", etag=f"{OTHER}-2"), entry("c", etag=f"{OTHER}-2"))
    inventory.looked["a"] = entry("a", etag=f"{OTHER}-2", checksums={"crc32": "AAAAAA=="})
    inventory.looked["b"] = entry("b", etag=f"{OTHER}-2", checksums={"crc32": "BBBBBB=="})
    result = Result(inventory, [row("a"), row("b"), row("c")])
    assert result.told == [("b", Kind.CONTENT)]
    assert (result.summary.same, result.summary.size_only, result.summary.looks) == (1, 1, 3)


def test_content_is_read_only_where_it_matters() -> None:
    """Where a look means reading, it is done with --deep, or when the file was changed since."""
    inventory = Fake(entry("a", etag=""), entry("b", etag="", modified=LATER), cheap=False)
    Result(inventory, [row("a"), row("b"), row("c")])
    assert sorted(inventory.looks) == [("b", True), ("c", False)]
    inventory.looks.clear()
    Result(inventory, [row("a"), row("b"), row("c")], deep=True)
    assert sorted(inventory.looks) == [("a", True), ("b", True), ("c", True)]


def test_findings_come_in_the_order_of_keys() -> None:
    """Looks overlap, what they found is told in turn."""
    keys = [f"{number:04d}" for number in range(500)]
    inventory = Fake(*(entry(key) for key in keys[::3]))
    result = Result(inventory, [row(key) for key in keys])
    assert result.told == [(key, Kind.MISSING) for key in keys if int(key) % 3]


def test_an_unordered_listing() -> None:
    """A destination that lists in no order gets a correct audit all the same, and it is said."""
    keys = [f"{number:04d}" for number in range(500)]
    shuffled = sorted(keys, key=lambda key: key[::-1])
    inventory = Fake(*(entry(key) for key in shuffled if key != "0123"))
    result = Result(inventory, [row(key) for key in keys])
    assert result.told == [("0123", Kind.MISSING)]
    assert result.summary.keys == 500
    assert "in no order" in result.notices[0]


def test_a_listing_that_is_known_to_be_unordered() -> None:
    """Where it is known before that a destination lists in no order, nothing is asked for because of that."""
    keys = [f"{number:04d}" for number in range(500)]
    inventory = Fake(*(entry(key) for key in reversed(keys) if key != "0123"))
    inventory.lists_in_order = False
    result = Result(inventory, [row(key) for key in keys])
    assert (result.told, inventory.looks) == ([("0123", Kind.MISSING)], [("0123", True)])


def test_without_a_listing() -> None:
    """Where listing is not permitted each key is asked for, and it is said."""
    inventory = Fake(entry("a"), entry("b"))
    inventory.no_listing = CannotList("Not permitted.", code="AccessDenied")
    result = Result(inventory, [row("a"), row("b"), row("c")])
    assert result.told == [("c", Kind.MISSING)]
    assert len(inventory.looks) == 3
    assert "on its own" in result.notices[0]


def test_without_a_listing_what_is_missing_looks_forbidden() -> None:
    """Amazon answers 403 for a missing key to who may not list: that is told as what it is, a doubt."""
    inventory = Fake(entry("b"))
    inventory.no_listing = CannotList("Not permitted.", code="AccessDenied")
    inventory.refusals = {"a": denied(), "c": denied()}
    result = Result(inventory, [row("a"), row("b"), row("c")])
    assert result.told == [("a", Kind.UNREADABLE), ("c", Kind.UNREADABLE)]
    assert "missing or not readable" in result.findings[0].detail
    assert result.summary.problems == 2


@pytest.mark.parametrize("count", [3, 5000])
def test_nothing_but_refusals_is_no_audit(count: int) -> None:
    """Missing read permission is reported as such, after some hundred tries at the latest, not as missing objects."""
    inventory = Fake()
    inventory.no_listing = CannotList("Not permitted.", code="AccessDenied")
    rows = [row(f"{number:04d}") for number in range(count)]
    inventory.refusals = {each.key: denied() for each in rows}
    with pytest.raises(StoreError) as caught:
        Result(inventory, rows)
    assert caught.value.scope is Scope.DESTINATION
    assert len(inventory.looks) < 300


def test_a_listing_without_the_right_to_look() -> None:
    """With the permission to list but not to read, the audit reports what the listing shows, and its limits."""
    inventory = Fake(entry("a"), entry("b", etag=f"{OTHER}-2"))
    inventory.refusals = {"b": denied(), "c": denied()}
    result = Result(inventory, [row("a"), row("b"), row("c")])
    assert result.told == [("c", Kind.MISSING)]
    assert (result.summary.same, result.summary.size_only) == (1, 1)


def test_an_error_of_one_key_costs_one_key() -> None:
    """A key for which the server gives no answer is a finding, and the audit continues."""
    inventory = Fake(entry("a"))
    inventory.refusals = {"b": StoreError("It is on fire.", code="InternalError")}
    result = Result(inventory, [row("a"), row("b"), row("c")])
    assert result.told == [("b", Kind.UNREADABLE), ("c", Kind.MISSING)]
    assert result.findings[0].detail == "It is on fire."


def test_the_end_of_its_time() -> None:
    """An audit whose time is over says how many keys it did not get to and where they begin; it judges none of them."""
    keys = [f"{number:02d}" for number in range(20)]
    inventory = Fake(*(entry(key) for key in keys))
    times = itertools.count()
    result = Result(inventory, [row(key) for key in keys], until=20, clock=lambda: next(times))
    assert (result.told, result.summary.problems) == ([], 0)
    assert 0 < result.summary.keys < 20
    assert result.summary.not_audited == 20 - result.summary.keys
    assert result.summary.first_not_audited == keys[result.summary.keys]
    assert not result.summary.is_complete


@pytest.mark.parametrize("scope", list(Scope))
def test_a_question_that_the_end_of_the_time_cuts_short(scope: Scope) -> None:
    """What fails because the time is over is neither unreadable nor an error of the destination: it was not audited."""
    now = [0.0]

    def late(key: str, *, content: bool) -> Entry | None:
        now[0] = 10.0
        raise StoreError("No answer.", code="Timeout", scope=scope)

    inventory = Fake(entry("a"))
    inventory.look = late  # type: ignore[method-assign]
    result = Result(inventory, [row("a"), row("b"), row("c")], until=10, clock=lambda: now[0])
    assert (result.told, result.summary.keys, result.summary.not_audited) == ([], 1, 2)
    assert result.summary.first_not_audited == "b"


def test_a_destination_that_answers_nothing_in_all_its_time() -> None:
    """A destination that has answered nothing when the time is over cannot be read, and that is an error."""
    now = [0.0]

    def late(prefix: str, *, wanted: Callable[[], str]) -> Iterator[Entry]:
        now[0] = 10.0
        raise StoreError("No answer.", code="Timeout", scope=Scope.DESTINATION)

    inventory = Fake()
    inventory.entries = late  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="No answer"):
        Result(inventory, [row("a")], until=10, clock=lambda: now[0])


def test_a_destination_that_fails_ends_it() -> None:
    """A destination that becomes unreachable half way is an error, and nothing is reported as missing."""
    inventory = Fake(entry("a"))
    inventory.refusals = {"b": StoreError("Gone.", code="ConnectionFailed", scope=Scope.DESTINATION)}
    with pytest.raises(StoreError, match="Gone"):
        Result(inventory, [row("a"), row("b"), row("c")])


def test_an_empty_ledger() -> None:
    """With nothing shipped nothing is asked."""
    assert Result(Fake(), []).summary.keys == 0


# ------------------------------------------------------------------------------------------------ the ledger's side


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the ledger is."""
    return str(tmp_path / "ledger.sqlite3")


def snapshot_of(path: str, *rows: ShippedRow, **selection: object) -> list[ShippedRow]:
    """What a snapshot selects of some rows."""
    with Ledger.open(path, clock=lambda: NOW) as ledger:
        ledger.commit_batch(shipped=rows)
    with Snapshot(path, destination="bucket") as snapshot:
        bounds = snapshot.select(**selection)  # type: ignore[arg-type]
        found = list(snapshot.rows())
        assert bounds == (Bounds(len(found), found[0].key, found[-1].key) if found else Bounds())
        return found


def known(row: ShippedRow) -> ShippedRow:
    """What a snapshot keeps of a row."""
    return msgspec.structs.replace(row, mtime_ns=0, period_begin=None, seconds=0, run=None)


def test_the_last_row_of_each_key_counts(path: str) -> None:
    """What was overwritten later is of no interest, in whatever order the times are."""
    rows = [
        shipped("b", size=1, shipped_at=NOW + 9),
        shipped("a", size=2),
        shipped("b", size=3),
        shipped("c", key="a", size=4),
    ]
    assert [(each.path, each.key, each.size) for each in snapshot_of(path, *rows)] == [("c", "a", 4), ("b", "b", 3)]


def test_rows_come_in_the_order_of_bytes(path: str) -> None:
    """Keys sort by their bytes, be they text or not, and come back as they were."""
    keys = ["a/b", "a.b", "é", "\uffee", "😀", "\udcff", "Z", "a" * 300]
    found = snapshot_of(path, *(shipped(key) for key in keys))
    assert [each.key for each in found] == sorted(keys, key=key_order)
    assert found[0] == known(shipped(found[0].key))


def test_more_rows_than_a_piece(path: str) -> None:
    """All of them come, however many."""
    keys = [f"{number:05d}" for number in range(2500)]
    assert [each.key for each in snapshot_of(path, *(shipped(key) for key in reversed(keys)))] == keys


def test_a_selection(path: str) -> None:
    """A row is selected by its own values, after the last of its key was found."""
    old, new = shipped("a", shipped_at=NOW), shipped("a", shipped_at=NOW + 100)
    other = shipped("attic/b", location="attic", shipped_at=NOW + 50)
    assert snapshot_of(path, old, new, other, since=NOW + 60) == [known(new)]
    assert snapshot_of(path, until=NOW + 60) == [known(other)]
    assert snapshot_of(path, location="attic") == [known(other)]
    assert snapshot_of(path, match="att*") == [known(other)]
    assert snapshot_of(path, since=NOW + 1000) == []


def test_an_older_ledger(path: str) -> None:
    """A ledger that no run of this version has opened yet can be audited, for which it is not changed."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for step in MIGRATIONS[:1]:
        for statement in step:
            connection.execute(statement)
    connection.execute("PRAGMA user_version = 1")
    connection.execute("INSERT INTO destinations VALUES (1, 'bucket')")
    columns = "path, location, destination, size, mtime_ns, shipped_at, seconds, proof, checksum, etag, version_id"
    values = f"'a', 'b', 1, 5, 0, {NOW}, 0, 'md5', '', '{MD5}', ''"
    connection.execute(f"INSERT INTO shipped ({columns}, already_there) VALUES ({values}, 0)")
    connection.commit()
    connection.close()
    before = Path(path).read_bytes()
    with Snapshot(path, destination="bucket") as snapshot:
        snapshot.select()
        (found,) = snapshot.rows()
        assert judge(found, entry()).same
        ((_, same),) = snapshot.shipped_and_there([SpoolFile("a", 5, 0, "")])
        assert same.etag == MD5
    assert Path(path).read_bytes() == before


def test_other_destinations(path: str) -> None:
    """What went elsewhere is counted and not audited."""
    rows = [shipped("a"), shipped("b", destination="old"), shipped("c", destination="old")]
    assert [each.key for each in snapshot_of(path, *rows)] == ["a"]
    with Snapshot(path, destination="bucket") as snapshot:
        assert snapshot.elsewhere() == {"old": 2}
        assert snapshot.knows_destination()
    with Snapshot(path, destination="new") as snapshot:
        assert snapshot.elsewhere() == {"bucket": 1, "old": 2}
        assert not snapshot.knows_destination()


def test_a_ledger_that_is_not_there(path: str) -> None:
    """It is no empty one, of which nothing could be missing: the error names it, and it stays away."""
    with pytest.raises(StateError, match=f"There is no ledger {path}"):
        Snapshot(path, destination="bucket")
    assert not Path(path).exists()


def test_a_ledger_that_is_none(path: str) -> None:
    """Another file in its place is refused with a sentence."""
    Path(path).write_bytes(b"something else" * 100)
    with pytest.raises(StateError):
        Snapshot(path, destination="bucket")


def test_the_ledger_is_free_while_it_is_audited(path: str) -> None:
    """A run can continue to write, and the audit continues with what it has read."""
    with Ledger.open(path, clock=lambda: NOW, busy_seconds=0) as ledger:
        ledger.commit_batch(shipped=[shipped("a")])
        with Snapshot(path, destination="bucket") as snapshot:
            snapshot.select()
            rows = snapshot.rows()
            ledger.commit_batch(shipped=[shipped("a", size=1), shipped("b")])
            assert [each.key for each in rows] == ["a"]
            ledger.prune(now=NOW * 2, history_days=1, history_max_files=1)


def test_files_that_are_still_there(path: str) -> None:
    """Files of the spool come back with the last row of their path, if there is one."""
    snapshot_of(path, shipped("a", size=1), shipped("a", size=2), shipped("\udcff"))
    files = [SpoolFile("a", 2, 2**63 + 5, "fresh"), SpoolFile("\udcff", 3, 4, ""), SpoolFile("new", 1, 1, "")]
    with Snapshot(path, destination="bucket") as snapshot:
        snapshot.select()
        found = dict(sorted(((file.path, (file, each.size)) for file, each in snapshot.shipped_and_there(files))))
    assert set(found) == {"a", "\udcff"}
    assert found["a"][1] == 2
    assert found["a"][0].reason == "fresh"


def test_a_file_that_goes_meanwhile(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that a run removes while it is looked at is no finding."""
    write(tmp_path / "spool" / "a")
    status = (tmp_path / "spool" / "a").stat()
    config = from_mapping(
        {
            "base_dir": str(tmp_path / "spool"),
            "bucket": "bucket",
            "layout": "tree",
            "state_dir": str(tmp_path / "state"),
        },
        source="x",
    )
    snapshot_of(path, shipped("a", size=status.st_size, mtime_ns=status.st_mtime_ns, checksum=""))

    def told() -> list[Kind]:
        findings: list[Discrepancy] = []
        with open_place(config) as place, Snapshot(path, destination="bucket") as snapshot:
            audit_spool(place, snapshot, deep=True, address=str, tell=findings.append, summary=Summary())
        return [finding.kind for finding in findings]

    def gone(descriptor: int, until: float) -> dict[str, str]:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    assert told() == [Kind.STILL_THERE]
    monkeypatch.setattr(spool, "_digests", gone)
    assert told() == []


# ------------------------------------------------------------------------------------------------ a directory


def test_a_directory_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the tree that is out of reach costs that part only."""
    for key in ("a/x", "b/x", "c/x"):
        write(tmp_path / key)
    real = os.open

    def refusing(name: str, *arguments: Any, **options: Any) -> int:
        if name == "b":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)
    inventory = LocalInventory(path=str(tmp_path))
    inventory.open()
    assert [entry.key for entry in inventory.entries("", wanted=str)] == ["a/x", "c/x"]
    assert list(inventory.entries("b/", wanted=str)) == []
    with pytest.raises(StoreError) as caught:
        inventory.look("b/x", content=False)
    assert caught.value.scope is Scope.FILE
    inventory.close()


# ------------------------------------------------------------------------------------------------ what S3 lists


def test_a_page() -> None:
    """A page is read whatever its keys hold, and where it says that they are encoded they are decoded."""
    element = (
        "<Contents><Key>{}</Key><LastModified>2020-09-13T12:26:40.500Z</LastModified><ETag>&quot;{}&quot;</ETag>"
        "<Size>5</Size><Owner><ID>me</ID></Owner><StorageClass>STANDARD</StorageClass></Contents>"
    )
    head = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken>"
    encoded = parse_page(
        (
            head
            + "<EncodingType>url</EncodingType>"
            + element.format("a%2Fb+c%2B%F0%9F%98%80%0A", MD5)
            + "</ListBucketResult>"
        ).encode()
    )
    assert encoded.token == "a&b"
    assert encoded.entries == [entry("a/b c+😀\n", modified=NOW + 0.5)]
    plain = parse_page((head + element.format("a&amp;b+c%2B", MD5) + "</ListBucketResult>").encode())
    assert plain.entries[0].key == "a&b+c%2B"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome</html>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
    ],
)
def test_what_is_no_page(body: bytes) -> None:
    """An answer that is no listing, or only a part of one, is an error and never an empty bucket."""
    with pytest.raises(StoreError) as caught:
        parse_page(body)
    assert caught.value.scope is Scope.DESTINATION


@pytest.mark.parametrize(("text", "moment"), [("2020-09-13T12:26:40Z", NOW), ("2020-09-13T12:26:40", NOW), ("", None)])
def test_times(text: str, moment: float | None) -> None:
    """A time with or without a fraction."""
    assert parse_iso(text) == moment
