"""The buckets of a connection, opened on first use and closed when there are too many."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from s3_uploader.core.control import begins_anew_after_fork
from s3_uploader.remote_store.bucket import Bucket, Shared
from s3_uploader.stores.s3.engines.choose import Mock, active_mock

MOST_BUCKETS = 16
"""How many unused buckets stay open. Each has a thread and connections."""
_CLOSE_SECONDS = 5.0

Key = tuple[str, Mock]


class Pool:
    """Open buckets by name. Any number of threads may use it; a forked child starts with none.

    :param make: opens a bucket.
    """

    def __init__(self, make: Callable[[str, Shared], Bucket]) -> None:
        self._make = make
        self._begin_anew()
        begins_anew_after_fork(self, Pool.forked)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._opening = threading.RLock()
        self._shared: Shared | None = None
        self._buckets: dict[Key, Bucket] = {}

    @contextlib.contextmanager
    def bucket(self, name: str) -> Iterator[Bucket]:
        """Lend an open bucket."""
        key = (name, active_mock())
        bucket = self._take(key)
        try:
            yield bucket
        finally:
            with self._lock:
                bucket.users -= 1
                bucket.used_at = time.monotonic()
                is_last = bucket.is_retired and not bucket.users
            if is_last:
                bucket.close(timeout=_CLOSE_SECONDS)

    def _take(self, key: Key) -> Bucket:
        with self._lock:
            bucket = self._buckets.get(key)
            if bucket is not None and not bucket.is_broken:
                bucket.users += 1
                return bucket
        with self._opening:
            # Another thread may have opened it meanwhile, because the search for credentials can take long.
            with self._lock:
                bucket = self._buckets.get(key)
                if bucket is not None and not bucket.is_broken:
                    bucket.users += 1
                    return bucket
                if self._shared is None:
                    self._shared = Shared()
                shared = self._shared
            made = self._make(key[0], shared)
            with self._lock:
                made.users += 1
                self._buckets[key] = made
                superfluous = self._superfluous()
                if bucket is not None:
                    bucket.is_retired = True
                    if not bucket.users:
                        superfluous.append(bucket)
        for each in superfluous:
            each.close(timeout=_CLOSE_SECONDS)
        return made

    def _superfluous(self) -> list[Bucket]:
        idle = sorted((item for item in self._buckets.items() if not item[1].users), key=lambda item: item[1].used_at)
        surplus = idle[: max(0, len(self._buckets) - MOST_BUCKETS)]
        return [self._buckets.pop(key) for key, _ in surplus]

    def close(self) -> None:
        """Close all connections. A later request opens them again."""
        with self._lock:
            buckets, self._buckets = list(self._buckets.values()), {}
            shared, self._shared = self._shared, None
        until = time.monotonic() + _CLOSE_SECONDS
        for bucket in buckets:
            bucket.close(timeout=max(0.5, until - time.monotonic()))
        if shared is not None:
            shared.close()

    def forked(self) -> None:
        """Start anew in a forked child."""
        buckets = list(self._buckets.values())
        self._begin_anew()
        for bucket in buckets:
            with contextlib.suppress(Exception):
                bucket.leave_to_parent()
