"""The local store under the suite that every store passes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from s3_uploader.core.model import Proof
from s3_uploader.stores.base import Store
from s3_uploader.stores.local.store import LocalStore
from tests.contracts.store_contract import Stage, StoreContract


def directory_stage(
    root: Path, new_store: Callable[[], Store], *, expected_proof: Proof, large_size: int, races: bool = True
) -> Stage:
    """The stage of a store whose destination is, in the end, the directory ``root`` of this machine."""

    def read(key: str) -> bytes | None:
        path = os.path.join(root, key)
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return file.read()

    def write(key: str, content: bytes) -> None:
        path = os.path.join(root, key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # A server may write there as another user than this one.
        os.chmod(os.path.dirname(path), 0o777)
        with open(path, "wb") as file:
            file.write(content)

    def keys() -> list[str]:
        return sorted(
            os.path.relpath(os.path.join(directory, name), root)
            for directory, _, names in os.walk(root)
            for name in names
        )

    return Stage(
        new_store=new_store,
        read=read,
        write=write,
        keys=keys,
        expected_proof=expected_proof,
        large_size=large_size,
        races=races,
    )


class TestLocalStore(StoreContract):
    """A directory keeps every promise of a store."""

    @pytest.fixture
    def stage(self, tmp_path: Path) -> Stage:
        """A store over an empty directory."""
        root = tmp_path / "archive"
        root.mkdir()
        return directory_stage(
            root, lambda: LocalStore(path=str(root)), expected_proof=Proof.CHECKSUM, large_size=5_000_000
        )
