"""max_bandwidth is held, with every engine, by many small files and by one large one."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from s3_uploader.stores.base import PutOptions, Source
from tests.integration.s3_support import Station
from tests.servers.fault_server import FaultServer

RATE = 2**20
PATIENCE = 60


def seconds_for(store: object, count: int, total: int) -> float:
    """How long so many files take that have together so many bytes."""
    size = total // count
    with tempfile.TemporaryFile() as file:
        os.ftruncate(file.fileno(), size)
        options, source = PutOptions(), Source(file.fileno(), size)
        began = time.monotonic()
        deadline = began + PATIENCE
        futures = [
            store.put(f"{count}/{number}", source, options=options, deadline=deadline)  # type: ignore[attr-defined]
            for number in range(count)
        ]
        for future in futures:
            future.result(PATIENCE)
        return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timing
def test_the_rate_is_held(
    make_fault_server: Callable[..., FaultServer], engine: str, station: Station, effort: Callable[[int, int], int]
) -> None:
    """Over some seconds what arrives is within a tenth of what is set."""
    seconds = effort(4, 10)
    counts = (1, 320)
    stores = []
    for _ in counts:
        server = make_fault_server()
        store = station.store(server.endpoint, engine, max_bandwidth=RATE, max_concurrency=16)
        with tempfile.TemporaryFile() as file:  # what a store learns with its first object is not measured
            store.put("first", Source(file.fileno(), 0), options=PutOptions(), deadline=time.monotonic() + 9).result(9)
        stores.append(store)
    with ThreadPoolExecutor() as pool:
        took = list(pool.map(seconds_for, stores, counts, [RATE * seconds] * len(counts)))
    assert took == [pytest.approx(seconds, rel=0.1)] * len(counts), dict(zip(counts, took, strict=True))
