"""What every inventory promises, whatever it reads.

An inventory is put under test by a subclass of :class:`InventoryContract` whose fixture ``place`` returns a
:class:`Place`; what is there is put there through the store that uploads to it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.model import Receipt
from s3_uploader.inspection.audit.discrepancies import same_content
from s3_uploader.ledger import ShippedRow
from s3_uploader.stores.base import Store
from s3_uploader.stores.listing import Entry, Inventory, key_order
from tests.contracts.store_contract import ODD_KEYS, PATIENCE, begin, pattern

KEYS = (
    "attic/a.dat",
    "attic/a/b.dat",
    "attic/a0.dat",
    "bedroom/2020/11/29/20/46-topic.dat",
    "bedroom/2020/11/29/20/47-topic.dat",
    "bedroom.dat",
    "kitchen/Größe/日本語/😀.dat",
    "kitchen/\uffee.dat",
    "kitchen/plus+and space&%2F.dat",
)


class Place(msgspec.Struct, kw_only=True):
    """A destination under test.

    :param new_store: returns a store on it, not opened yet.
    :param new_inventory: returns an inventory of it, not opened yet.
    :param large_size: size of a file that goes up in parts, where there is such a thing.
    """

    new_store: Callable[[], Store]
    new_inventory: Callable[[], Inventory]
    large_size: int = 300_000


class InventoryContract:
    """The suite. Nothing in here knows which inventory it is about."""

    @pytest.fixture
    def place(self) -> Iterator[Place]:
        """The one thing that a subclass provides."""
        raise NotImplementedError

    @pytest.fixture
    def inventory(self, place: Place) -> Iterator[Inventory]:
        """An open inventory."""
        inventory = place.new_inventory()
        inventory.open()
        yield inventory
        inventory.close()

    @pytest.fixture
    def put(self, place: Place, tmp_path: Path) -> Iterator[Callable[..., list[Receipt]]]:
        """Upload some contents and wait for the receipts; a key that is refused has none."""
        store = place.new_store()
        store.open()
        with contextlib.ExitStack() as descriptors:

            def put(contents: dict[str, bytes]) -> list[Receipt]:
                receipts = []
                for key, content in contents.items():
                    with contextlib.suppress(StoreError):
                        receipts.append(begin(descriptors, store, tmp_path, key, content).result(PATIENCE))
                return receipts

            yield put
        store.close(timeout=5)

    def test_everything_is_listed(self, inventory: Inventory, put: Callable[..., list[Receipt]]) -> None:
        """Each key is listed once with its size, in the order of the keys' bytes."""
        receipts = put({key: pattern(100 + number) for number, key in enumerate(KEYS)})
        assert len(receipts) == len(KEYS)
        entries = listed(inventory)
        assert [(entry.key, entry.size) for entry in entries] == sorted(
            ((receipt.key, receipt.size) for receipt in receipts), key=lambda pair: key_order(pair[0])
        )

    def test_odd_keys_are_listed_as_they_are(self, inventory: Inventory, put: Callable[..., list[Receipt]]) -> None:
        """Whatever key the store takes comes back out of the listing, and can be looked at."""
        stored = {receipt.key for receipt in put(dict.fromkeys(ODD_KEYS, b"content"))}
        assert stored
        assert {entry.key for entry in listed(inventory)} == stored
        for key in stored:
            entry = inventory.look(key, content=False)
            assert entry is not None, key
            assert (entry.key, entry.size) == (key, 7)

    def test_a_prefix_narrows_it(self, inventory: Inventory, put: Callable[..., list[Receipt]]) -> None:
        """Only keys below the directory are listed; below one that is not there, none."""
        put(dict.fromkeys(KEYS, b"x"))
        for prefix in ("attic/", "attic/a/", "bedroom/2020/11/", "kitchen/Größe/", "nowhere/", "attic/a.dat/"):
            assert [entry.key for entry in listed(inventory, prefix)] == sorted(
                (key for key in KEYS if key.startswith(prefix)), key=key_order
            )

    def test_what_is_wanted_is_never_left_out(self, inventory: Inventory, put: Callable[..., list[Receipt]]) -> None:
        """From the wanted key on everything is listed."""
        put(dict.fromkeys(KEYS, b"x"))
        for wanted in KEYS:
            rest = [key for key in sorted(KEYS, key=key_order) if key_order(key) >= key_order(wanted)]
            found = [entry.key for entry in listed(inventory, wanted=wanted)]
            assert [key for key in found if key in rest] == rest

    @pytest.mark.parametrize("large", [False, True])
    def test_what_was_shipped_is_recognised(
        self, place: Place, inventory: Inventory, put: Callable[..., list[Receipt]], *, large: bool
    ) -> None:
        """A look at the content tells that it is that of the receipt; no other of the same size is taken for it."""
        size = place.large_size if large else 4096
        ours, theirs = put({"ours.dat": pattern(size, "ours"), "theirs.dat": pattern(size, "theirs")})
        entry, other = (inventory.look(key, content=True) for key in ("ours.dat", "theirs.dat"))
        assert entry is not None
        assert other is not None
        assert same_content(row_of(ours), entry) is True
        assert same_content(row_of(theirs), other) is True
        assert same_content(row_of(ours), other) is not True
        for each in (listed(inventory)[0], entry):
            assert each.modified is None or abs(each.modified - _now()) < 600

    def test_nothing_is_there(self, inventory: Inventory) -> None:
        """An empty destination lists nothing, and a look finds nothing."""
        assert listed(inventory) == []
        for key in ("missing.dat", "a/b/missing.dat"):
            assert inventory.look(key, content=True) is None
        for key in ("a//b", "/x", "..", "line\nbreak"):
            assert self.tells_nothing_of(inventory, key)

    @staticmethod
    def tells_nothing_of(inventory: Inventory, key: str) -> bool:
        """Whether there is nothing, or this key alone is refused, as one that no server would have taken."""
        try:
            return inventory.look(key, content=True) is None
        except StoreError as error:
            return error.scope is Scope.FILE

    def test_a_directory_is_no_object(self, inventory: Inventory, put: Callable[..., list[Receipt]]) -> None:
        """What only begins like a key is not under it."""
        put({"a/b/c.dat": b"x"})
        assert inventory.look("a/b", content=False) is None
        assert inventory.look("a/b/c", content=False) is None
        assert inventory.look("a/b/c.dat/d", content=False) is None

    def test_its_name_is_that_of_the_store(self, place: Place, inventory: Inventory) -> None:
        """The ledger knows the destination by the store's name."""
        store = place.new_store()
        assert inventory.name == store.name
        assert inventory.address("a/b.dat") == store.address("a/b.dat")

    def test_close_twice(self, place: Place) -> None:
        """It can be closed at any time and any number of times."""
        place.new_inventory().close()
        inventory = place.new_inventory()
        inventory.open()
        inventory.close()
        inventory.close()


def listed(inventory: Inventory, prefix: str = "", wanted: str = "") -> list[Entry]:
    """All entries at once."""
    return list(inventory.entries(prefix, wanted=lambda: wanted))


def row_of(receipt: Receipt) -> ShippedRow:
    """What the ledger would have of an upload."""
    return ShippedRow(
        path=receipt.key,
        key=receipt.key,
        destination="",
        size=receipt.size,
        mtime_ns=0,
        shipped_at=_now(),
        proof=receipt.proof,
        checksum=receipt.checksum,
        etag=receipt.etag,
        version_id=receipt.version_id,
    )


def _now() -> float:
    """The time, which the destination should know too."""
    return time.time()
