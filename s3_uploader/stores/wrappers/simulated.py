"""A store that fails at random, to show what failed runs look like before one happens."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable

from s3_uploader.core.errors import (
    DEADLINE_EXCEEDED,
    SIMULATED,
    ConflictError,
    KeyRefused,
    NameTaken,
    OutOfResources,
    ProofError,
    Scope,
    SourceChanged,
    SourceUnreadable,
    StoreError,
    UploadCancelled,
)
from s3_uploader.core.origins import Origin
from s3_uploader.stores.base import PendingReceipt, PutOptions, Source, Store
from s3_uploader.stores.wrappers.base import PassingStore

KINDS: tuple[Callable[[str], StoreError], ...] = (
    lambda address: ConflictError(f"{address} exists already with other content {SIMULATED}."),
    lambda address: ProofError(f"the answer does not prove that {address} holds our bytes {SIMULATED}."),
    lambda address: SourceChanged(f"the file shrank while it was read {SIMULATED}."),
    lambda address: SourceUnreadable(f"the local file cannot be read at byte 0: input/output error {SIMULATED}."),
    lambda address: KeyRefused(f"the destination cannot take the key of {address} {SIMULATED}."),
    lambda address: NameTaken(f"{address} is the name of another file at the destination {SIMULATED}."),
    lambda address: UploadCancelled(f"the upload took longer than its deadline {SIMULATED}.", code=DEADLINE_EXCEEDED),
    lambda address: StoreError(
        f"An error occurred (SlowDown) when calling the PutObject operation: Please reduce your request rate. "
        f"{SIMULATED}",
        code="SlowDown",
        retryable=True,
    ),
    lambda address: StoreError(
        f"An error occurred (InternalError) when calling the PutObject operation: We encountered an internal error. "
        f"{SIMULATED}",
        code="InternalError",
        origin=Origin.OURS,
        retryable=True,
    ),
    lambda address: StoreError(
        f"An error occurred (AccessDenied) when calling the PutObject operation: Access Denied {SIMULATED}",
        code="AccessDenied",
        origin=Origin.FILE_RIGHT,
        hint="Grant s3:PutObject on this key.",
    ),
    lambda address: OutOfResources(
        f"the upload of {address} failed: too many open files, by this program or on this machine {SIMULATED}.",
        hint="Raise this user's limit of open files (ulimit -n), or lower max_concurrency.",
    ),
    lambda address: StoreError(
        f"the connection was closed by the other side {SIMULATED}.",
        code="ConnectionClosed",
        retryable=True,
        scope=Scope.DESTINATION,
    ),
    lambda address: StoreError(
        f"An error occurred (ExpiredToken) when calling the PutObject operation: The provided token has expired. "
        f"{SIMULATED}",
        code="ExpiredToken",
        origin=Origin.CREDENTIALS,
        scope=Scope.DESTINATION,
        hint="Renew the credentials.",
    ),
)
"""Every kind of error that the program knows. The last ones end a run, as real ones do."""


class UnreliableStore(PassingStore):
    """Passes uploads to ``store``, but lets a share of them fail before they reach the destination.

    :param rate: share of the uploads that fail, 0 to 1.
    :param random: a float in [0, 1).
    """

    def __init__(self, store: Store, *, rate: float, random: Callable[[], float] = random_module.random) -> None:
        super().__init__(store)
        self._rate = rate
        self._random = random

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> PendingReceipt:
        """See :meth:`Store.put`; fails at random."""
        if self._random() >= self._rate:
            return self._store.put(key, source, options=options, deadline=deadline, replaces=replaces)
        failed = PendingReceipt()
        failed.complete(KINDS[int(self._random() * len(KINDS))](self.address(key)))
        return failed
