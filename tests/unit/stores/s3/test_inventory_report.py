"""What an S3 Inventory says is read as S3 writes it, in bounded memory, and nothing of it is trusted."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.errors import StoreError, UploaderError, UsageProblem
from s3_uploader.stores.listing import Entry
from s3_uploader.stores.s3 import inventory_report
from s3_uploader.stores.s3.inventory_report import InventoryReport
from tests.servers import environments
from tests.servers.debian import Unavailable

SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
TAKEN = 1_763_600_000.0
AT = "2025-11-20T00:53:20.000Z"


def line(key: str = "den/a.dat", *, version: str = "", latest: str = "true", marker: str = "false", **more: str) -> str:
    """A line of the inventory, all cells quoted as S3 does."""
    cells = [
        more.get("bucket", "bucket"),
        key,
        version,
        latest,
        marker,
        more.get("size", "10"),
        AT,
        "0" * 32,
        "STANDARD",
    ]
    return ",".join(f'"{cell}"' for cell in cells) + "\n"


def write(place: Path, *files: bytes, form: str = "CSV", schema: str = SCHEMA, **changes: Any) -> Path:
    """An inventory as it lies in its bucket: the manifest in a directory of its date, the files in ``data``."""
    dated = place / "prefix" / "bucket" / "daily" / "2025-11-20T01-00Z"
    data = dated.parent / "data"
    dated.mkdir(parents=True)
    data.mkdir()
    listed = []
    for number, content in enumerate(files):
        name = f"{number}.csv.gz"
        (data / name).write_bytes(content)
        key = f"prefix/bucket/daily/data/{name}"
        listed.append({"key": key, "size": len(content), "MD5checksum": hashlib.md5(content).hexdigest()})
    manifest = {
        "sourceBucket": "bucket", "destinationBucket": "arn:aws:s3:::inventories", "version": "2016-11-30",
        "creationTimestamp": str(int(TAKEN * 1000)), "fileFormat": form, "fileSchema": schema, "files": listed,
    }  # fmt: skip
    path = dated / "manifest.json"
    path.write_text(json.dumps(manifest | changes))
    return path


def packed(*lines: str) -> bytes:
    """Lines as a compressed file."""
    return gzip.compress("".join(lines).encode())


def entries(path: Path, prefix: str = "") -> list[Entry]:
    """All that the inventory has."""
    return list(InventoryReport(str(path)).entries(prefix))


def test_columns_and_files(tmp_path: Path) -> None:
    """Cells are found by the columns of the manifest, in all files, with or without compression or a header."""
    one = write(tmp_path / "one", packed(line("a"), line("b")), line("c").encode())
    assert entries(one) == [Entry(key=key, size=10, etag="0" * 32, modified=TAKEN) for key in "abc"]
    report = InventoryReport(str(one))
    assert (report.bucket, report.taken_at) == ("bucket", TAKEN)
    assert [entry.key for entry in entries(one, "b")] == ["b"]
    other = write(tmp_path / "other", packed('"Size","Key"\n', '"7","x"\n'), schema="Size, Key")
    assert entries(other) == [Entry(key="x", size=7)]


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("den/k%C3%BCche.dat", "den/küche.dat"),
        ("a+b%2Bc%20d", "a b+c d"),
        ("quote%22comma%2C%0Aline", 'quote"comma,\nline'),
        ("%FF", "\udcff"),
    ],
)
def test_keys_are_decoded(tmp_path: Path, encoded: str, key: str) -> None:
    """Keys come URL-encoded, and may hold any byte."""
    assert [entry.key for entry in entries(write(tmp_path, packed(line(encoded))))] == [key]


def test_versions(tmp_path: Path) -> None:
    """Of several versions the latest counts; where that is a delete marker there is nothing."""
    lines = (
        line("a", version="2"),
        line("a", version="1", latest="false", size="5"),
        line("gone", version="2", marker="true", size=""),
        line("gone", version="1", latest="false"),
        line("old", version="null"),
    )
    assert [(each.key, each.version_id) for each in entries(write(tmp_path, packed(*lines)))] == [
        ("a", "2"),
        ("old", ""),
    ]


def test_where_it_may_be_named(tmp_path: Path) -> None:
    """The manifest, its directory, and a data file beside it all name the inventory; files may lie beside it."""
    path = write(tmp_path, packed(line()))
    assert len(entries(path.parent)) == 1
    (data,) = (path.parent.parent / "data").iterdir()
    data.rename(path.parent / data.name)
    assert len(entries(path.parent / data.name)) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"form": "ORC"}, "format ORC, which is not supported"),
        ({"form": "XML"}, "unknown format 'XML'"),
        ({"schema": "Bucket, Key"}, "no column Size"),
        ({"creationTimestamp": "today"}, "does not say when"),
        ({"creationTimestamp": "9" * 400}, "does not say when"),
        ({"creationTimestamp": "-1"}, "does not say when"),
        ({"files": [{"key": "data/other.csv.gz", "size": 1}]}, "is missing"),
        ({"files": [{"key": "../../../../../../etc/passwd-", "size": 1}]}, "is missing"),
        ({"files": 5}, "not the manifest of an S3 Inventory"),
    ],
)
def test_what_is_not_read(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """A form that is not read, and a manifest that is none, are refused in a sentence before anything is compared."""
    with pytest.raises(UsageProblem, match=words):
        InventoryReport(str(write(tmp_path, packed(line()), **changes)))


@pytest.mark.parametrize("name", ["manifest.json", "a.csv.gz", "."])
def test_nothing_is_there(tmp_path: Path, name: str) -> None:
    """A path that leads to no inventory is named."""
    with pytest.raises(UsageProblem, match=r"manifest\.json"):
        InventoryReport(str(tmp_path / name))


DAMAGE = {
    "cut": (packed(*(line(f"{n}") for n in range(500)))[:-20], "Compressed file ended"),
    "no gzip": (b"\x1f\x8bnonsense", "cannot be used"),
    "columns": (packed('"a","b"\n'), "2 columns, but the manifest has 9"),
    "size": (packed(line(size="many")), "the size 'many'"),
    "bucket": (packed(line(bucket="another")), "of the bucket 'another'"),
    "endless line": (packed("x" * 100_000), "longer than any key"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_told(tmp_path: Path, kind: str) -> None:
    """A file that is damaged ends the audit with its name; what it says so far is not taken for all."""
    content, words = DAMAGE[kind]
    with pytest.raises(StoreError, match=words):
        entries(write(tmp_path, content))


def test_each_file_is_held_against_the_manifest(tmp_path: Path) -> None:
    """A file that was exchanged or cut since is noticed before any line of it counts."""
    path = write(tmp_path, packed(line()))
    (data,) = (path.parent.parent / "data").iterdir()
    for content, words in ((b"", "it has 0 bytes"), (data.read_bytes()[::-1], "MD5")):
        data.write_bytes(content)
        with pytest.raises(StoreError, match=words):
            entries(path)


def test_parquet_without_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the reader is not installed a sentence says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UploaderError, match="pyarrow, which is not installed"):
        entries(write(tmp_path, b"PAR1", form="Parquet"))


@pytest.fixture
def pyarrow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, from here or from an environment of its own."""
    if importlib.util.find_spec("pyarrow") is None:
        try:
            place = environments.installed("pyarrow").parent
        except Unavailable as missing:
            pytest.skip(str(missing))
        monkeypatch.syspath_prepend(next(place.glob("lib/python*/site-packages")))
    importlib.import_module("pyarrow.parquet")
    return importlib.import_module("pyarrow")


@pytest.mark.exhaustive
def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pyarrow: Any) -> None:
    """The same in Parquet: columns by its own names, keys as they are, times with a zone, in several batches."""
    monkeypatch.setattr(inventory_report, "_ROWS_AT_ONCE", 2)
    at = datetime.datetime.fromtimestamp(TAKEN, datetime.timezone.utc)
    keys = ["a+b%20", "küche", "old", "marker"]
    table = pyarrow.table(
        {
            "bucket": ["bucket"] * 4,
            "key": keys,
            "version_id": ["1", None, "3", "4"],
            "is_latest": [True, True, False, True],
            "is_delete_marker": [False, False, False, True],
            "size": [1, 2, 3, None],
            "last_modified_date": pyarrow.array([at] * 4, pyarrow.timestamp("ms")),
            "e_tag": ["e" * 32] * 4,
            "storage_class": ["STANDARD"] * 4,
        }
    )
    file = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(table, file)
    path = write(tmp_path, file.read_bytes(), form="Parquet", schema="message s3.inventory { ... }")
    first, second = entries(path)
    assert first == Entry(key="a+b%20", size=1, etag="e" * 32, modified=TAKEN, version_id="1")
    assert (second.key, second.size) == ("küche", 2)
    with pytest.raises(StoreError, match="cannot be used"):
        entries(write(tmp_path / "damaged", b"PAR1 and nothing else PAR1", form="Parquet"))
