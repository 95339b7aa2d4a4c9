"""An S3 Inventory, which Amazon writes into a bucket every day or week, read from files instead of a listing.

A manifest names the data files, their columns and the time of the inventory
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html). In CSV, keys are URL-encoded.
If the inventory covers all versions, it contains old versions and delete markers, too. Everything is read in pieces of
bounded size, after the size and MD5 of each data file were checked.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any
from urllib.parse import unquote_to_bytes

import msgspec

from s3_uploader.core.errors import EngineUnavailable, Scope, StoreError, UsageProblem
from s3_uploader.core.extras import installing
from s3_uploader.core.model import NOT_JSON
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import is_number, shown_name
from s3_uploader.stores.listing import Entry, Inventory
from s3_uploader.stores.s3.checksums import clean_etag

_MANIFEST = "manifest.json"
_MOST_MANIFEST_BYTES = 256 * 2**20
_LONGEST_LINE = 64 * 1024
_CHUNK = 2**20
_ROWS_AT_ONCE = 10_000
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z?", re.ASCII)
_MILLISECONDS = re.compile("[0-9]{1,14}", re.ASCII)
_COPY_AGAIN = "Copy the inventory once more, the manifest and all its data files."


class DataFile(msgspec.Struct, frozen=True):
    """A data file in the manifest."""

    key: str
    size: int
    md5: str = msgspec.field(default="", name="MD5checksum")


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The manifest; ``creation_timestamp`` is milliseconds since the epoch, as text."""

    source_bucket: str
    file_format: str
    file_schema: str = ""
    creation_timestamp: str
    files: list[DataFile]


class InventoryReport:
    """An inventory on this machine.

    :param path: the ``manifest.json``, its directory, or a data file.
    :raises UsageProblem: if there is no inventory, or its format is not supported.
    """

    def __init__(self, path: str) -> None:
        self._path = _manifest_of(path)
        self._manifest = _read_manifest(self._path)
        if not _MILLISECONDS.fullmatch(self._manifest.creation_timestamp):
            raise UsageProblem(f"The manifest {shown_name(self._path)} does not say when it was made.")
        self.taken_at = int(self._manifest.creation_timestamp) / 1000
        form = self._manifest.file_format.upper()
        if form == "ORC":
            raise UsageProblem(
                f"The inventory {shown_name(self._path)} is in the format ORC, which is not supported.",
                hint="Configure S3 to write it as CSV or Parquet.",
            )
        readers = {"CSV": self._csv_rows, "PARQUET": _parquet_rows}
        if form not in readers:
            raise UsageProblem(f"The inventory {shown_name(self._path)} is in the unknown format {form[:40]!r}.")
        self._read: Callable[[str], Iterator[Mapping[str, Any]]] = readers[form]
        if form == "CSV" and not {"Key", "Size"} <= set(self._columns):
            raise _without("Size")
        self._files = [(each, self._place_of(each)) for each in self._manifest.files]

    @property
    def bucket(self) -> str:
        """The bucket that it describes."""
        return self._manifest.source_bucket

    def entries(self, prefix: str) -> Iterator[Entry]:
        """The latest version of each object whose key begins with the prefix, in no particular order.

        :raises StoreError: if a file is damaged or differs from the manifest.
        """
        for each, path in self._files:
            self._verify(each, path)
        for _, path in self._files:
            try:
                for row in self._read(path):
                    entry = self._entry(row, path)
                    if entry is not None and entry.key.startswith(prefix):
                        yield entry
            except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
                raise _damaged(path, str(error)) from error

    @property
    def _columns(self) -> list[str]:
        return [name.strip() for name in self._manifest.file_schema.split(",")]

    def _csv_rows(self, path: str) -> Iterator[Mapping[str, Any]]:
        columns = self._columns
        with _opened(path) as file:
            for cells in csv.reader(_lines(file, path)):
                if cells == columns:
                    continue  # S3 writes no header, others do
                if len(cells) != len(columns):
                    raise _damaged(path, f"a line has {len(cells)} columns, but the manifest has {len(columns)}")
                row = dict(zip(columns, cells, strict=True))
                # Form encoding writes a space as "+".
                row["Key"] = os.fsdecode(unquote_to_bytes(row["Key"].replace("+", " ")))
                yield row

    def _entry(self, row: Mapping[str, Any], path: str) -> Entry | None:
        if _is(row.get("IsLatest"), "false") or _is(row.get("IsDeleteMarker"), "true"):
            return None
        bucket = row.get("Bucket")
        if bucket is not None and bucket != self.bucket:
            raise _damaged(path, f"a line is of the bucket {str(bucket)[:80]!r}")
        key, size = row["Key"], str(row["Size"])
        if not isinstance(key, str) or not is_number(size):
            raise _damaged(path, f"an object has the size {size[:40]!r}")
        version = row.get("VersionId")
        return Entry(
            key=key,
            size=int(size),
            etag=clean_etag(str(row.get("ETag") or "")),
            modified=_moment(row.get("LastModifiedDate")),
            version_id=version if isinstance(version, str) and version != "null" else "",
        )

    def _place_of(self, file: DataFile) -> str:
        """The path of a data file: at its key below some directory above the manifest, beside it, or in ``data``."""
        names = [name for name in file.key.split("/") if name not in ("", ".", "..")]
        directory = os.path.dirname(os.path.abspath(self._path))
        above = directory
        for _ in names:
            for tail in (names, ["data", *names[-1:]], names[-1:]):
                path = os.path.join(above, *tail)
                if tail and os.path.isfile(path):
                    return path
            above = os.path.dirname(above)
        raise UsageProblem(
            f"The data file {shown_name(file.key)} of the inventory {shown_name(self._path)} is missing.",
            hint="Copy it into the directory of the manifest.",
        )

    def _verify(self, file: DataFile, path: str) -> None:
        digest, size = hashlib.md5(usedforsecurity=False), 0
        try:
            with open(path, "rb") as opened:
                while chunk := opened.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
        except OSError as error:
            raise _damaged(path, error.strerror or str(error)) from error
        if size != file.size:
            raise _damaged(path, f"it has {size:,} bytes, but the manifest says {file.size:,}")
        if file.md5 and digest.hexdigest() != file.md5.lower():
            raise _damaged(path, "its MD5 differs from that in the manifest")


class ReportedInventory:
    """A bucket whose listing comes from an inventory. The bucket itself is asked only for keys in doubt.

    As :class:`~s3_uploader.stores.listing.Inventory`.
    """

    lists_in_order = False

    def __init__(self, bucket: Inventory, report: InventoryReport) -> None:
        if report.bucket != bucket.name:
            raise UsageProblem(
                f"The inventory is of the bucket {shown_name(report.bucket)}, the configuration names "
                f"{shown_name(bucket.name)}."
            )
        self._bucket = bucket
        self._report = report
        self.name = bucket.name
        self.concurrency = bucket.concurrency
        self.looks_are_cheap = bucket.looks_are_cheap

    def open(self) -> None:
        """Get ready to ask the bucket."""
        self._bucket.open()

    def entries(self, prefix: str, *, wanted: Callable[[], str]) -> Iterator[Entry]:
        """The entries of the inventory."""
        return self._report.entries(prefix)

    def look(self, key: str, *, content: bool) -> Entry | None:
        """The current object in the bucket."""
        return self._bucket.look(key, content=content)

    def address(self, key: str) -> str:
        """``bucket/key``."""
        return self._bucket.address(key)

    def close(self) -> None:
        """Close the bucket."""
        self._bucket.close()


def _manifest_of(path: str) -> str:
    if os.path.isdir(path):
        path = os.path.join(path, _MANIFEST)
    if os.path.basename(path).endswith(".json"):
        if os.path.isfile(path):
            return path
        raise UsageProblem(f"{shown_name(path)} does not exist.", hint="Name the manifest.json of an S3 Inventory.")
    above = os.path.dirname(os.path.abspath(path))
    for directory in (above, os.path.dirname(above)):
        manifest = os.path.join(directory, _MANIFEST)
        if os.path.isfile(path) and os.path.isfile(manifest):
            return manifest
    raise UsageProblem(
        f"{shown_name(path)} has no manifest.json beside it, which names its columns.",
        hint="Name the manifest.json of an S3 Inventory.",
    )


def _read_manifest(path: str) -> Manifest:
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_MANIFEST_BYTES + 1)
        if len(text) > _MOST_MANIFEST_BYTES:
            raise UsageProblem(f"The manifest {shown_name(path)} is larger than any valid one.")
        return msgspec.json.decode(text, type=Manifest)
    except OSError as error:
        raise UsageProblem(f"{shown_name(path)} cannot be read: {error.strerror}.") from error
    except NOT_JSON as error:
        raise UsageProblem(
            f"{shown_name(path)} is not the manifest of an S3 Inventory: {error}.", hint="Name its manifest.json."
        ) from error


def _opened(path: str) -> IO[bytes]:
    with open(path, "rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if is_compressed else open(path, "rb")  # type: ignore[return-value]


def _lines(file: IO[bytes], path: str) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise _damaged(path, "a line is longer than any key")
        yield line.decode("utf-8", "surrogateescape")


_IN_PARQUET = {
    "bucket": "Bucket",
    "key": "Key",
    "versionid": "VersionId",
    "islatest": "IsLatest",
    "isdeletemarker": "IsDeleteMarker",
    "size": "Size",
    "lastmodifieddate": "LastModifiedDate",
    "etag": "ETag",
}


def _parquet_rows(path: str) -> Iterator[Mapping[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise EngineUnavailable(
            "An inventory in Parquet is read with pyarrow, which is not installed.",
            hint=f"Install it ({installing('inventory')}), or configure S3 to write the inventory as CSV.",
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            names = {name: _IN_PARQUET.get(name.lower().replace("_", "")) for name in file.schema_arrow.names}
            known = {name: ours for name, ours in names.items() if ours is not None}
            if not {"Key", "Size"} <= set(known.values()):
                raise _without("Size")
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(known)):
                for row in batch.to_pylist():
                    yield {known[name]: value for name, value in row.items()}
    except ValueError as error:  # pyarrow raises it for any file that is not Parquet
        raise _damaged(path, str(error)) from error


def _is(value: object, word: str) -> bool:
    return value is not None and str(value).lower() == word


def _moment(value: object) -> float | None:
    if isinstance(value, datetime.datetime):
        return (value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)).timestamp()
    if not isinstance(value, str) or not _ISO.fullmatch(value):
        return None
    try:
        return datetime.datetime.strptime(f"{value[:19]}+0000", "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return None


def _without(column: str) -> UsageProblem:
    return UsageProblem(
        f"The inventory has no column {column}, so nothing can be compared.",
        hint="Configure S3 to write size, last modified date and ETag.",
    )


def _damaged(path: str, why: str) -> StoreError:
    return StoreError(
        f"The file {shown_name(path)} of the inventory cannot be used: {why}.",
        code="InvalidInventory",
        scope=Scope.DESTINATION,
        origin=Origin.SETTING,
        hint=_COPY_AGAIN,
    )
