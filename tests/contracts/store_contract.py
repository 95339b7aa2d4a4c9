"""What every store promises, whatever it stores into.

A store is put under test by a subclass of :class:`StoreContract` whose fixture ``stage`` returns a :class:`Stage`::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def stage(self, tmp_path):
            yield Stage(...)

Terms
-----
stage
    A store under test together with a second way into its destination, one that does not go through the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3_uploader.core.errors import (
    ConflictError,
    KeyRefused,
    ObjectGone,
    ProofError,
    SourceChanged,
    StoreError,
    UploadCancelled,
)
from s3_uploader.core.findings import Severity
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.stores.base import PendingReceipt, PutOptions, Source, Store

PATIENCE = 60.0

ODD_KEYS = (
    "a key with spaces.dat",
    " leading and trailing ",
    "quotes'and\"double.dat",
    "100%.dat",
    "already%20encoded%2Fname.dat",
    "plus+and&equals=and?question#hash.dat",
    "tilde~dash-dot.under_score",
    "brackets[1](2){3}<4>|5^6`7",
    "semi;colon:at@comma,dollar$star*bang!",
    "back\\slash.dat",
    "line\nbreak.dat",
    "carriage\rreturn\tand tab.dat",
    "escape\x1b[31mred\x1b[0m.dat",
    "unit\x01separator\x7f.dat",
    "åäö/Größe/日本語/😀.dat",
    "combining-e\u0301.dat",
    "no-break\u00a0space\u2028separator.dat",
    "deep/er/than/it/needs/to/be.dat",
    "two//slashes.dat",
    "trailing-dots...",
    "...hidden",
    ".hidden/.file",
    "segment/./dot.dat",
    "segment/../up.dat",
    "/leading-slash.dat",
)


class Stage(msgspec.Struct, kw_only=True):
    """A store under test and what its tests need to know of it.

    :param new_store: returns another store on the same destination, not opened yet; the suite opens and closes it.
    :param read: the bytes under a key, ``None`` where there is nothing.
    :param write: put bytes under a key behind the store's back.
    :param keys: everything that the destination holds, leftovers of failed uploads included, sorted.
    :param expected_proof: what a receipt gives at the least.
    :param reads_back: whether the store reads back what it was not told enough of, so that it can prove everything.
    :param forbid_reading: let nobody read at the destination from now on; given where the store reads back.
    :param large_size: size of a file that this store handles in its way for large files.
    :param maximum_key_bytes: length limit of a key, ``None`` for none.
    :param races: whether two stores can be trusted to have one winner for one key.
    """

    new_store: Callable[[], Store]
    read: Callable[[str], bytes | None]
    write: Callable[[str, bytes], None]
    keys: Callable[[], list[str]]
    expected_proof: Proof = Proof.MD5
    reads_back: bool = False
    forbid_reading: Callable[[], None] = lambda: None
    large_size: int = 300_000
    maximum_key_bytes: int | None = None
    races: bool = True


def pattern(size: int, seed: str = "") -> bytes:
    """Bytes that look random and are always the same for the same arguments."""
    return hashlib.shake_128(f"{seed}:{size}".encode()).digest(size)


class StoreContract:
    """The suite. Nothing in here knows which store it is about."""

    @pytest.fixture
    def stage(self) -> Iterator[Stage]:
        """The one thing that a subclass provides."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, stage: Stage) -> Iterator[Store]:
        """An open store."""
        store = stage.new_store()
        store.open()
        yield store
        store.close(timeout=5)

    @pytest.fixture
    def put(self, store: Store, tmp_path: Path) -> Iterator[Callable[..., Receipt]]:
        """Upload some bytes and wait for the receipt."""
        with contextlib.ExitStack() as descriptors:

            def put(key: str, content: bytes, **arguments: Any) -> Receipt:
                return begin(descriptors, store, tmp_path, key, content, **arguments).result(PATIENCE)

            yield put

    @pytest.mark.parametrize("size", [0, 1, 4096, 70_000, 2_000_000])
    def test_bytes_arrive_exactly(self, stage: Stage, put: Callable[..., Receipt], size: int) -> None:
        """What is read back from the destination is what was in the file, byte for byte."""
        content = pattern(size)
        receipt = put("bedroom/2020/11/29/20/46-topic.dat", content)
        assert stage.read("bedroom/2020/11/29/20/46-topic.dat") == content
        assert (receipt.key, receipt.size) == ("bedroom/2020/11/29/20/46-topic.dat", size)
        assert not receipt.already_there

    def test_a_large_file_arrives_exactly(self, stage: Stage, put: Callable[..., Receipt]) -> None:
        """A file that goes up in the way for large ones is the same at the other end, and nothing else is left."""
        content = pattern(stage.large_size)
        receipt = put("large.dat", content)
        assert stage.read("large.dat") == content
        assert receipt.size == stage.large_size
        assert receipt.proof >= stage.expected_proof
        assert stage.keys() == ["large.dat"]

    def test_a_receipt_carries_the_proof(self, stage: Stage, store: Store, put: Callable[..., Receipt]) -> None:
        """A receipt says how we know that the bytes are there, and never less than was asked for."""
        receipt = put("key", b"content")
        assert stage.expected_proof <= receipt.proof

    def test_a_stronger_proof_than_there_is_fails(
        self, stage: Stage, store: Store, put: Callable[..., Receipt]
    ) -> None:
        """An upload that cannot be proven as well as the configuration wants is no success."""
        if stage.expected_proof is Proof.CHECKSUM:
            pytest.skip("this destination gives the strongest proof there is")
        if stage.reads_back:
            assert put("read-back", b"content", minimum_proof=Proof.CHECKSUM).proof is Proof.CHECKSUM
            stage.forbid_reading()
        with pytest.raises(ProofError) as caught:
            put("key", b"content", minimum_proof=Proof.CHECKSUM)
        assert "minimum_proof" in caught.value.hint

    @pytest.mark.parametrize("large", [False, True])
    def test_the_same_content_again_is_success(self, stage: Stage, put: Callable[..., Receipt], *, large: bool) -> None:
        """A crash between upload and delete does no harm: the next run finds its own object and says so."""
        content = pattern(stage.large_size if large else 4096)
        put("again.dat", content)
        receipt = put("again.dat", content)
        assert receipt.already_there
        assert receipt.proof >= Proof.MD5
        assert stage.read("again.dat") == content
        assert stage.keys() == ["again.dat"]

    @pytest.mark.parametrize("large", [False, True])
    @pytest.mark.parametrize("same_size", [False, True])
    def test_other_content_is_never_replaced_silently(
        self, stage: Stage, put: Callable[..., Receipt], *, large: bool, same_size: bool
    ) -> None:
        """An object that somebody else put under the key stays as it is, and the upload fails."""
        ours = pattern(stage.large_size if large else 4096, "ours")
        theirs = pattern(len(ours) if same_size else 1234, "theirs")
        put("first.dat", b"so that the store knows its destination")
        stage.write("taken.dat", theirs)
        with pytest.raises(ConflictError) as caught:
            put("taken.dat", ours)
        assert "taken.dat" in caught.value.message
        assert caught.value.hint
        assert stage.read("taken.dat") == theirs
        assert stage.keys() == ["first.dat", "taken.dat"]

    def test_the_very_first_upload_replaces_nothing_either(self, stage: Stage, put: Callable[..., Receipt]) -> None:
        """A conflict on the first upload of all, when the store knows nothing of its destination, is one as well."""
        stage.write("taken.dat", b"theirs")
        with pytest.raises(ConflictError):
            put("taken.dat", b"ours")
        assert stage.read("taken.dat") == b"theirs"

    @pytest.mark.parametrize("large", [False, True])
    def test_overwrite_replaces(self, stage: Stage, put: Callable[..., Receipt], *, large: bool) -> None:
        """With on_conflict: overwrite the new content takes the place of the old."""
        ours = pattern(stage.large_size if large else 4096)
        stage.write("taken.dat", b"theirs")
        receipt = put("taken.dat", ours, on_conflict=OnConflict.OVERWRITE)
        assert not receipt.already_there
        assert receipt.proof >= stage.expected_proof
        assert stage.read("taken.dat") == ours

    @pytest.mark.parametrize("large", [False, True])
    def test_keep_both_keeps_both(self, stage: Stage, put: Callable[..., Receipt], *, large: bool) -> None:
        """With on_conflict: keep-both the new content goes under a key that the receipt names, the same every time."""
        ours = pattern(stage.large_size if large else 4096)
        stage.write("dir.d/taken.dat", b"theirs")
        receipt = put("dir.d/taken.dat", ours, on_conflict=OnConflict.KEEP_BOTH)
        assert receipt.key != "dir.d/taken.dat"
        assert receipt.key.startswith("dir.d/taken")
        assert receipt.key.endswith(".dat")
        assert not receipt.already_there
        again = put("dir.d/taken.dat", ours, on_conflict=OnConflict.KEEP_BOTH)
        assert again.key == receipt.key
        assert again.already_there
        assert stage.read("dir.d/taken.dat") == b"theirs"
        assert stage.read(receipt.key) == ours
        assert len(stage.keys()) == 2

    def test_odd_keys_are_taken_exactly_or_refused(self, stage: Stage, put: Callable[..., Receipt]) -> None:
        """A key is stored byte for byte, or refused with a sentence; it never turns into another one."""
        taken: list[str] = []
        for number, key in enumerate(ODD_KEYS):
            content = b"content %d" % number
            try:
                put(key, content)
            except StoreError:
                assert stage.keys() == sorted(taken), f"{key!r} was refused, but something was stored"
            else:
                taken.append(key)
                assert stage.keys() == sorted(taken)
                assert stage.read(key) == content

    def test_a_key_that_is_no_text(self, stage: Stage, put: Callable[..., Receipt]) -> None:
        """A name with undecodable bytes is stored under exactly these bytes or refused."""
        key = os.fsdecode(b"latin-\xe9t\xe9.dat")
        try:
            put(key, b"content")
        except KeyRefused:
            assert not stage.keys()
        else:
            assert stage.read(key) == b"content"

    def test_a_key_that_is_too_long(self, stage: Stage, store: Store, put: Callable[..., Receipt]) -> None:
        """A key one byte over the limit is refused before anything is sent; one at the limit is tried."""
        limit = stage.maximum_key_bytes
        if limit is None:
            pytest.skip("this store knows no limit")
        with pytest.raises(KeyRefused) as caught:
            put("é" * (limit // 2) + "ab", b"content")
        assert str(limit) in caught.value.message.replace(",", "")
        assert not stage.keys()

    @pytest.mark.parametrize("large", [False, True])
    def test_a_source_that_shrank_is_never_completed(
        self, stage: Stage, store: Store, tmp_path: Path, *, large: bool
    ) -> None:
        """Fewer bytes than promised means that the file changed: the upload fails and leaves nothing behind."""
        size = stage.large_size if large else 4096
        with contextlib.ExitStack() as descriptors:
            future = begin(descriptors, store, tmp_path, "shrunk.dat", pattern(size), promised=size + 1)
            with pytest.raises(SourceChanged):
                future.result(PATIENCE)
        assert not stage.keys()

    def test_only_the_promised_bytes_are_sent(self, stage: Stage, put: Callable[..., Receipt]) -> None:
        """Of a file that grew since it was opened exactly the promised bytes are stored."""
        put("grown.dat", b"0123456789", promised=4)
        assert stage.read("grown.dat") == b"0123"

    def test_the_file_offset_does_not_matter(self, stage: Stage, store: Store, tmp_path: Path) -> None:
        """A store reads from offset 0 wherever the descriptor stands, and leaves it there."""
        path = tmp_path / "offset"
        path.write_bytes(b"0123456789")
        with path.open("rb", buffering=0) as file:
            file.seek(7)
            source = Source(file.fileno(), 10)
            store.put("key", source, options=PutOptions(minimum_proof=Proof.SIZE), deadline=soon()).result(PATIENCE)
            assert file.tell() == 7
        assert stage.read("key") == b"0123456789"

    @pytest.mark.parametrize("large", [False, True])
    def test_a_deadline_that_passed(self, stage: Stage, store: Store, tmp_path: Path, *, large: bool) -> None:
        """An upload whose deadline is over fails with the code DeadlineExceeded."""
        content = pattern(stage.large_size if large else 4096)
        with contextlib.ExitStack() as descriptors:
            future = begin(descriptors, store, tmp_path, "late.dat", content, deadline=time.monotonic() - 1)
            with pytest.raises(UploadCancelled) as caught:
                future.result(PATIENCE)
        assert caught.value.code == "DeadlineExceeded"

    def test_cancel_ends_every_future(self, stage: Stage, store: Store, tmp_path: Path) -> None:
        """After cancel() every upload in flight is over soon: it got its receipt before, or it was cancelled."""
        with contextlib.ExitStack() as descriptors:
            futures = [
                begin(descriptors, store, tmp_path, f"cancelled-{i}.dat", pattern(stage.large_size, str(i)))
                for i in range(8)
            ]
            store.cancel()
            for future in futures:
                error = future.exception(PATIENCE)
                assert error is None or isinstance(error, UploadCancelled), error
        for key in list(stage.keys()):
            index = key.removeprefix("cancelled-").removesuffix(".dat")
            assert stage.read(key) == pattern(stage.large_size, index), "half an object became visible"

    def test_many_uploads_at_once(self, stage: Stage, store: Store, tmp_path: Path) -> None:
        """Uploads in flight together do not mix up their bytes."""
        with contextlib.ExitStack() as descriptors:
            futures = {
                f"many/{i}": begin(descriptors, store, tmp_path, f"many/{i}", pattern(500 * i, str(i)))
                for i in range(50)
            }
            for key, future in futures.items():
                assert future.result(PATIENCE).key == key
        for i in range(50):
            assert stage.read(f"many/{i}") == pattern(500 * i, str(i))

    @pytest.mark.parametrize("large", [False, True])
    def test_a_race_for_one_key_has_one_winner(
        self, stage: Stage, store: Store, tmp_path: Path, effort: Callable[[int, int], int], *, large: bool
    ) -> None:
        """Of two writers with different content one gets a receipt, the other a conflict."""
        if not stage.races:
            pytest.skip("this destination cannot exclude it")
        size = stage.large_size if large else 4096
        rival = stage.new_store()
        rival.open()
        with contextlib.ExitStack() as descriptors, contextlib.closing(_Closing(rival)):
            for one in (store, rival):
                begin(descriptors, one, tmp_path, f"warm-up-{id(one)}", b"x").result(PATIENCE)
            for attempt in range(effort(1, 3) if large else 3):
                key = f"race-{attempt}"
                contents = [pattern(size, f"{attempt}-{i}") for i in range(2)]
                futures = [
                    begin(descriptors, one, tmp_path, key, content)
                    for one, content in zip((store, rival), contents, strict=True)
                ]
                errors = [future.exception(PATIENCE) for future in futures]
                assert sum(error is None for error in errors) == 1, errors
                winner = errors.index(None)
                assert isinstance(errors[1 - winner], ConflictError)
                assert stage.read(key) == contents[winner]

    def test_metadata_is_no_obstacle(self, put: Callable[..., Receipt]) -> None:
        """Metadata goes along where the destination has such a thing and is ignored where it has not."""
        put("with-metadata", b"content", metadata={"origin": "bedroom"})

    def test_check_finds_a_good_destination_good(self, stage: Stage, store: Store) -> None:
        """check() on a destination that works finds no error and cleans up behind itself."""
        findings = store.check(now=time.time())
        assert findings
        assert [finding for finding in findings if finding.severity is Severity.ERROR] == []
        assert stage.keys() == []

    def test_address_names_the_store_and_the_key(self, store: Store) -> None:
        """The address that messages show contains the key as it is."""
        assert store.address("bedroom/2020/11/29/20/46-topic.dat").endswith("bedroom/2020/11/29/20/46-topic.dat")

    def test_a_store_has_a_name(self, store: Store) -> None:
        """Messages and the ledger call a store by its name, which its addresses begin with."""
        assert store.name
        assert store.address("key").startswith(store.name)

    def test_what_is_there_can_be_confirmed(self, stage: Stage, store: Store, put: Callable[..., Receipt]) -> None:
        """An object that was stored is there when it is asked for once more, be it empty; one that never was is not."""
        for content in (b"some content", b""):
            receipt = put(f"confirm/{len(content)}", content)
            assert store.confirm(receipt, deadline=time.monotonic() + 30).result(30) == receipt
        gone = msgspec.structs.replace(put("confirm/there", b"x"), key="confirm/never")
        with pytest.raises(ObjectGone):
            store.confirm(gone, deadline=time.monotonic() + 30).result(30)

    def test_close_twice(self, stage: Stage) -> None:
        """Closing a store is allowed at any time and any number of times."""
        store = stage.new_store()
        store.close(timeout=1)
        store = stage.new_store()
        store.open()
        store.close(timeout=1)
        store.close(timeout=1)

    def test_close_ends_every_future(self, stage: Stage, tmp_path: Path) -> None:
        """No future outlives its store."""
        store = stage.new_store()
        store.open()
        with contextlib.ExitStack() as descriptors:
            futures = [
                begin(descriptors, store, tmp_path, f"closed-{i}.dat", pattern(stage.large_size)) for i in range(4)
            ]
            store.close(timeout=0.5)
            for future in futures:
                error = future.exception(5)
                assert error is None or isinstance(error, StoreError)


class _Closing:
    def __init__(self, store: Store) -> None:
        self.store = store

    def close(self) -> None:
        self.store.close(timeout=5)


def soon() -> float:
    """A deadline that is far enough away for every test."""
    return time.monotonic() + PATIENCE


def begin(
    descriptors: contextlib.ExitStack,
    store: Store,
    directory: Path,
    key: str,
    content: bytes,
    *,
    promised: int | None = None,
    deadline: float | None = None,
    on_conflict: OnConflict = OnConflict.FAIL,
    minimum_proof: Proof = Proof.MD5,
    metadata: Mapping[str, str] | None = None,
) -> PendingReceipt:
    """Start an upload; the file stays open until ``descriptors`` is closed.

    :param promised: size that the source claims to have, if not the truth.
    """
    path = directory / f"source-{time.monotonic_ns()}"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    descriptors.callback(os.close, descriptor)
    options = PutOptions(on_conflict=on_conflict, minimum_proof=minimum_proof, metadata=metadata or {})
    source = Source(descriptor, len(content) if promised is None else promised)
    return store.put(key, source, options=options, deadline=soon() if deadline is None else deadline)
