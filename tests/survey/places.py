"""Where a survey ships to: a new bucket, or a new directory of a file server; and what is there afterwards."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from tests.e2e.site import Site, contents
from tests.servers.base import S3Endpoint

PART = 5 * 2**20
"""The smallest part that S3 takes; a larger file goes in parts."""

PROOFS = frozenset(("checksum", "md5"))
"""What an upload to S3 has to be proven by."""


class Place(Protocol):
    """Empty, and nobody else's."""

    proofs: frozenset[str]
    """What counts as a proof there by default."""

    def point(self, site: Site, *, whole: int | None, **settings: Any) -> None:
        """Let a site ship there.

        :param whole: files up to this size go as a whole where they would go in parts.
        """

    def read(self, key: str) -> bytes | None:
        """The bytes of an object, ``None`` if it is not there under exactly that name."""

    def names(self) -> list[str]:
        """Under which names something is there."""


class BucketPlace:
    """A bucket, read with boto3."""

    proofs = PROOFS

    def __init__(self, bucket: S3Endpoint, engine: str) -> None:
        self._bucket = bucket
        self._engine = engine

    def point(self, site: Site, *, whole: int | None, **settings: Any) -> None:
        """Let a site ship there, with an engine."""
        threshold = PART if whole is None else whole
        site.ship_to(self._bucket, engine=self._engine, multipart_threshold=threshold, part_size=PART, **settings)

    def read(self, key: str) -> bytes | None:
        """The bytes of an object."""
        try:
            return self._bucket.read(key)
        except (ClientError, BotoCoreError):
            return None

    def names(self) -> list[str]:
        """The keys; those that stand for an empty directory do not count."""
        return [key for key in self._bucket.keys() if not key.endswith("/")]  # noqa: SIM118


class DirectoryPlace:
    """A directory of a file server, read from the disk that it has.

    :param root: what the server shows as ``shown``.
    :param own: takes a new directory below it to the server's user.
    """

    proofs = PROOFS | {"size"}

    def __init__(
        self,
        root: Path,
        shown: str,
        destination: dict[str, Any],
        environment: dict[str, str],
        own: Callable[[Path], object],
    ) -> None:
        name = f"survey-{secrets.token_hex(4)}"
        self._directory = root / name
        self._directory.mkdir()
        own(self._directory)
        self._destination = {**destination, "path": f"{shown.rstrip('/')}/{name}"}
        self._environment = environment

    def point(self, site: Site, *, whole: int | None, **settings: Any) -> None:
        """Let a site ship there."""
        on_conflict = {key: settings.pop(key) for key in ("on_conflict",) if key in settings}
        site.settings["destination"] = {**self._destination, **on_conflict}
        site.settings.update(settings)
        site.environment.update(self._environment)

    def read(self, key: str) -> bytes | None:
        """The bytes of a file."""
        if key.startswith("/") or not set(key.split("/")).isdisjoint(("", ".", "..")):
            return None
        path = os.path.join(self._directory, key)
        return Path(path).read_bytes() if os.path.isfile(path) else None

    def names(self) -> list[str]:
        """The paths of all files."""
        return sorted(contents(self._directory))
