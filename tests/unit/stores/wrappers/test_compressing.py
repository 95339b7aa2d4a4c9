"""Files that are compressed on their way: which, into what, and that nothing of them is lost."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import resource
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader import config
from s3_uploader.core.errors import ConfigError, EngineUnavailable, SourceChanged, StoreError, UploadCancelled
from s3_uploader.core.model import Candidate, Proof, Receipt
from s3_uploader.run.routing import build_routes
from s3_uploader.stores.base import USUAL_LIMITS, CheckLimits, Compression, PendingReceipt, PutOptions, Source, ignore
from s3_uploader.stores.wrappers import compressing
from s3_uploader.stores.wrappers.compressing import IN_MEMORY, CompressingStore

GZIP = Compression("gzip", 6, ".gz")
ZSTD = Compression("zstd", 3, ".zst")
SIZES = [0, 1, 1000, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY + 17]


def content(size: int) -> bytes:
    """Bytes that are worth compressing."""
    return (b"2020-11-29 20:46 21.5 C\n" * (size // 24 + 1))[:size]


def unpacked(data: bytes, form: str) -> bytes:
    """What a reader makes of it."""
    return gzip.decompress(data) if form == "gzip" else compressing._zstd().decompress(data)


class Recording:
    """A store that keeps what it gets; it answers when told to."""

    name = "recording"
    loop = None
    keeps_writers_apart = True

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes, PutOptions]] = []
        self.error: StoreError | None = None
        self.answers = True
        self.held: list[PendingReceipt] = []
        self.closed = self.cancelled = False
        self._inside = threading.Lock()

    def open(self) -> None:
        """Nothing to do."""

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> PendingReceipt:
        """Keep it."""
        assert self._inside.acquire(blocking=False), "two calls at once"
        try:
            data = os.pread(source.descriptor, source.size + 1, 0)
            self.got.append((key, data, options))
            future = PendingReceipt()
            if not self.answers:
                self.held.append(future)
            elif self.error is not None:
                future.complete(self.error)
            else:
                future.complete(Receipt(key=key, size=len(data), proof=Proof.CHECKSUM))
            return future
        finally:
            self._inside.release()

    def cancel(self) -> None:
        """Take note."""
        self.cancelled = True
        for future in self.held:
            future.complete(UploadCancelled("stopped"))

    def confirm(self, receipt: Receipt, *, deadline: float) -> PendingReceipt:
        """It is there."""
        future = PendingReceipt()
        future.complete(receipt)
        return future

    def check(
        self, *, now: float, stored: Callable[[str], None] = ignore, limits: CheckLimits = USUAL_LIMITS
    ) -> list[Any]:
        """Nothing to find."""
        return []

    def address(self, key: str) -> str:
        """The key."""
        return key

    def close(self, *, timeout: float) -> None:
        """Take note."""
        self.closed = True


@pytest.fixture
def inner() -> Recording:
    """The store behind."""
    return Recording()


@pytest.fixture
def store(inner: Recording, tmp_path: Path) -> Iterator[CompressingStore]:
    """One that compresses for it."""
    made = CompressingStore(inner, directory=str(tmp_path), formats={"gzip", "zstd"})
    made.open()
    yield made
    made.close(timeout=5)


@pytest.fixture
def open_file(tmp_path: Path) -> Iterator[Callable[[bytes], Source]]:
    """Files with some content, as sources."""
    descriptors: list[int] = []

    def open_it(data: bytes) -> Source:
        path = tmp_path / f"file-{len(descriptors)}"
        path.write_bytes(data)
        descriptors.append(os.open(path, os.O_RDONLY))
        return Source(descriptors[-1], len(data))

    yield open_it
    for descriptor in descriptors:
        os.close(descriptor)


def put(store: CompressingStore, source: Source, compression: Compression | None = GZIP, **more: Any) -> Receipt:
    """Store and wait."""
    options = PutOptions(compression=compression, metadata={"site": "7"})
    deadline = time.monotonic() + 60
    return store.put("a/b.csv.gz", source, options=options, **{"deadline": deadline, **more}).result(30)


@pytest.mark.parametrize("compression", [GZIP, ZSTD], ids=["gzip", "zstd"])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_decompressed_is_the_file(
    store: CompressingStore, inner: Recording, open_file: Callable[[bytes], Source], size: int, compression: Compression
) -> None:
    """Byte for byte, whether in memory or through a file; the receipt has both sizes."""
    data = content(size)
    receipt = put(store, open_file(data), compression)
    ((key, stored, options),) = inner.got
    assert unpacked(stored, compression.format) == data
    assert (receipt.size, receipt.stored_size, receipt.encoding) == (size, len(stored), compression.format)
    assert options.metadata == {
        "site": "7",
        "original-sha256": hashlib.sha256(data).hexdigest(),
        "original-size": str(size),
    }
    assert (options.content_encoding, options.compression) == (compression.format, None)
    assert key == "a/b.csv.gz"


@pytest.mark.parametrize("compression", [GZIP, ZSTD], ids=["gzip", "zstd"])
def test_the_same_file_gives_the_same_bytes(
    store: CompressingStore, inner: Recording, open_file: Callable[[bytes], Source], compression: Compression
) -> None:
    """Compressed bytes contain neither name nor time, so a retry recognises its own object."""
    for _ in range(2):
        put(store, open_file(content(100_000)), compression)
    assert inner.got[0][1] == inner.got[1][1]


def test_files_that_cannot_be_made_smaller_differ_in_their_checksum(
    store: CompressingStore, inner: Recording, open_file: Callable[[bytes], Source]
) -> None:
    """Plain gzip of two such files of one length has one CRC-32; by that a destination would take one for the other."""
    data = os.urandom(100_000)
    for each in (data, data[:-1] + bytes([data[-1] ^ 1])):
        put(store, open_file(each))
        assert gzip.decompress(inner.got[-1][1]) == each
    assert zlib.crc32(inner.got[0][1]) != zlib.crc32(inner.got[1][1])


def test_other_files_are_passed_on_as_they_are(
    store: CompressingStore, inner: Recording, open_file: Callable[[bytes], Source]
) -> None:
    """A file that is not to be compressed is passed on unchanged."""
    receipt = put(store, open_file(b"x"), None)
    assert inner.got[0][1] == b"x"
    assert (receipt.stored_size, receipt.encoding) == (None, "")


def test_many_at_once(store: CompressingStore, inner: Recording, open_file: Callable[[bytes], Source]) -> None:
    """Threads compress beside each other, and hand over one at a time."""
    options = PutOptions(compression=GZIP)
    deadline = time.monotonic() + 60
    sources = [open_file(content(5000 + number)) for number in range(40)]
    futures = [store.put(f"{n}.gz", source, options=options, deadline=deadline) for n, source in enumerate(sources)]
    assert [future.result(30).size for future in futures] == [source.size for source in sources]
    assert {key: len(gzip.decompress(data)) for key, data, _ in inner.got} == {
        f"{n}.gz": source.size for n, source in enumerate(sources)
    }


def test_a_file_that_shrinks_is_not_stored(
    store: CompressingStore, inner: Recording, open_file: Callable[[bytes], Source]
) -> None:
    """Fewer bytes than promised make an error and no object."""
    source = open_file(b"short")
    with pytest.raises(SourceChanged):
        put(store, Source(source.descriptor, 100))
    assert not inner.got


def test_errors_of_the_store_come_through(
    store: CompressingStore, inner: Recording, open_file: Callable[[bytes], Source]
) -> None:
    """What the store says about the upload is what the run hears."""
    inner.error = StoreError("no", code="No")
    with pytest.raises(StoreError, match="no"):
        put(store, open_file(b"x"))


@pytest.mark.parametrize("size", [10, IN_MEMORY + 1])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_said_in_words(
    store: CompressingStore,
    inner: Recording,
    open_file: Callable[[bytes], Source],
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    number: int,
) -> None:
    """Where there is no room for the compressed bytes, the error says whose room it is and what to do."""

    def full(*arguments: Any) -> int:
        raise OSError(number, os.strerror(number))

    source = open_file(content(size))
    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (size, size))
    with pytest.raises(StoreError) as caught:
        put(store, source)
    monkeypatch.undo()
    assert caught.value.code == "NoRoomToCompress"
    assert os.strerror(number) in caught.value.message
    assert ("state directory" if number == errno.ENOSPC else "ulimit -f") in caught.value.hint
    assert not inner.got


@pytest.mark.parametrize("refusals", [3, 10**9])
def test_a_lack_of_descriptors_is_waited_for(
    store: CompressingStore, open_file: Callable[[bytes], Source], monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    """Other uploads free descriptors; if none does, the advice is not to make room on a disk."""
    source, create = open_file(b"x"), os.memfd_create
    left = [refusals]

    def refuse(*arguments: Any) -> int:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return create(*arguments)

    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr("s3_uploader.stores.wrappers.compressing._LOOK_SECONDS", 0.001)
    if refusals == 3:
        put(store, source)
        return
    monkeypatch.setattr("s3_uploader.stores.wrappers.compressing._DESCRIPTOR_SECONDS", 0.05)
    with pytest.raises(StoreError, match="too many open files") as caught:
        put(store, source)
    assert "ulimit -n" in caught.value.hint


def test_a_deadline_ends_the_work(store: CompressingStore, open_file: Callable[[bytes], Source]) -> None:
    """What could not be compressed in time is given up like any late upload."""
    with pytest.raises(UploadCancelled) as caught:
        put(store, open_file(b"x"), deadline=time.monotonic() - 1)
    assert caught.value.code == "DeadlineExceeded"


def test_cancelled_uploads_end(store: CompressingStore, inner: Recording, open_file: Callable[[bytes], Source]) -> None:
    """Whatever is being compressed or sent ends with the cancel, and the store hears of it."""
    inner.answers = False
    options = PutOptions(compression=GZIP)
    futures = [
        store.put("k.gz", open_file(content(500_000)), options=options, deadline=time.monotonic() + 60)
        for _ in range(20)
    ]
    store.cancel()
    assert all(isinstance(future.exception(30), UploadCancelled) for future in futures)
    assert inner.cancelled


def test_no_descriptor_is_left_open(
    store: CompressingStore, inner: Recording, open_file: Callable[[bytes], Source]
) -> None:
    """Neither success nor failure keeps the compressed bytes."""
    before = len(os.listdir("/proc/self/fd"))
    sources = [open_file(content(size)) for size in (10, IN_MEMORY + 1)]
    for source in sources:
        put(store, source)
    inner.error = StoreError("no", code="No")
    for source in sources:
        with pytest.raises(StoreError):
            put(store, source)
    assert len(os.listdir("/proc/self/fd")) == before + len(sources)


@pytest.mark.parametrize("error", [None, StoreError("no", code="No")], ids=["stored", "refused"])
@pytest.mark.parametrize("size", [10, IN_MEMORY + 1])
def test_an_error_of_close_changes_nothing(
    store: CompressingStore,
    inner: Recording,
    open_file: Callable[[bytes], Source],
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    error: StoreError | None,
) -> None:
    """Quotas and network file systems may complain when a file is closed; the run hears what the store said before."""
    close = os.close
    failed: list[int] = []

    def complain(descriptor: int) -> None:
        close(descriptor)
        failed.append(descriptor)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    inner.error = error
    source = open_file(content(size))
    monkeypatch.setattr(os, "close", complain)
    future = store.put("key", source, options=PutOptions(compression=GZIP), deadline=time.monotonic() + 60)
    outcome = future.exception(timeout=30)
    monkeypatch.undo()
    assert outcome is error
    assert failed


def test_a_missing_library_is_said_with_its_remedy(inner: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zstd is an extra; whoever asks for it without having it learns its name."""
    import importlib

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    CompressingStore(inner, directory="/", formats={"gzip"}).open()
    with pytest.raises(EngineUnavailable, match=r"pip install .*\[zstd\]"):
        CompressingStore(inner, directory="/", formats={"zstd"}).open()


class TestPlan:
    """Which files are compressed, and what their keys become."""

    def shipped(self, key: str, **settings: Any) -> tuple[str, Compression | None]:
        """Key and compression of a file."""
        plan = build_routes(config.from_mapping({"base_dir": "/s", "bucket": "b", **settings}, source="x"))
        *directory, name = key.split("/")
        shipment = plan(Candidate(tuple(directory), name, key, None, None, key.split("/")[0], 0, 1))
        return shipment.key, shipment.options.compression

    def test_suffixes_and_levels(self) -> None:
        """Both formats have a suffix and a level that suit them, and both can be set."""
        assert self.shipped("a/x.csv", compress="gzip", key_prefix="p/") == ("p/a/x.csv.gz", GZIP)
        assert self.shipped("a/x.csv", compress="zstd") == ("a/x.csv.zst", ZSTD)
        own = {"format": "gzip", "level": 9, "key_suffix": ""}
        assert self.shipped("a/x.csv", compress=own) == ("a/x.csv", Compression("gzip", 9, ""))
        assert self.shipped("a/x.csv") == ("a/x.csv", None)

    def test_what_is_compressed_already_is_left(self) -> None:
        """Names of compressed files are known; others can be named instead."""
        for name in ("a/x.gz", "a/x.jpg", "a/x.tar.zst", "a/b/x.mp4"):
            assert self.shipped(name, compress="gzip") == (name, None)
        everything = {"format": "gzip", "exclude": []}
        assert self.shipped("a/x.gz", compress=everything)[0] == "a/x.gz.gz"
        some = {"format": "gzip", "include": ["*.csv"], "exclude": ["raw/**"]}
        assert self.shipped("a/x.csv", compress=some)[0] == "a/x.csv.gz"
        assert self.shipped("a/x.dat", compress=some)[0] == "a/x.dat"
        assert self.shipped("raw/x.csv", compress=some)[0] == "raw/x.csv"

    def test_locations_have_their_own(self) -> None:
        """A location can be compressed otherwise, or not at all."""
        locations = {"camera": {"compress": "none"}, "log": {"compress": "zstd"}}
        assert self.shipped("camera/x.csv", compress="gzip", locations=locations)[1] is None
        assert self.shipped("log/x.csv", compress="gzip", locations=locations)[1] == ZSTD
        assert self.shipped("a/x.csv", compress="gzip", locations=locations)[1] == GZIP

    def test_what_makes_no_sense_is_refused(self) -> None:
        """Levels are those of the format."""
        raw = {"base_dir": "/s", "bucket": "b", "compress": {"format": "gzip", "level": 19}}
        with pytest.raises(ConfigError) as caught:
            config.from_mapping({**raw, "locations": {"a": {"compress": "bzip2"}}}, source="x")
        assert sorted(caught.value.problems) == [
            "compress.level: must be at most 9 with gzip, not 19",
            'locations.a.compress: must be "none", "gzip", "zstd" or {"format": …}, not "bzip2"; did you mean "gzip"?',
        ]
