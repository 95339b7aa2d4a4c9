"""The object API against boto3, and obstore if there is one: call after call, 4 KiB, in one run.

What is compared is the time of a call, ours divided by theirs. Absolute times say more about the machine; both are
taken in turn, so that what else the machine does meets both. What is deleted or written was not read before: ours would
wait for the disk then, so that the file which was made of the object is safe before the object goes.
"""

from __future__ import annotations

import contextlib
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

import s3_uploader
from tests.servers.base import S3Endpoint

ALLOWED = 0.2
"""Of what boto3 takes."""
_MEMORY = Path("/dev/shm")
OPERATIONS = ("write", "read", "exists", "delete")  # what was written is what is deleted
SIZE = 4096
CALLS = 100
ROUNDS = 7

Call = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds that a call of one operation takes, of each contestant, and ours by boto3's."""

    operation: str
    milliseconds: dict[str, float]

    @property
    def ratio(self) -> float:
        """Ours by boto3's."""
        return self.milliseconds["s3_uploader"] / self.milliseconds["boto3"]


def measure(endpoint: S3Endpoint, place: Path, *, calls: int = CALLS, rounds: int = ROUNDS) -> list[Timing]:
    """Time each operation of each contestant, in turn."""
    with contextlib.ExitStack() as stack:
        if _MEMORY.is_dir():
            # What a file system takes for a file, and for one that takes the place of another, is not in question.
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_MEMORY)))
        return _measured(stack, endpoint, place, calls, rounds)


def _measured(stack: contextlib.ExitStack, endpoint: S3Endpoint, place: Path, calls: int, rounds: int) -> list[Timing]:
    source = place / "source"
    source.write_bytes(bytes(range(256)) * (SIZE // 256))
    contestants: dict[str, dict[str, Call]] = {
        "s3_uploader": _ours(stack, endpoint, source, place),
        "boto3": _boto3(stack, endpoint, source, place),
    }
    others = _obstore(endpoint, source, place)
    if others:
        contestants["obstore"] = others
    for functions in contestants.values():
        _timed(functions["prepare"], calls)
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for operation in OPERATIONS:
            for name, functions in contestants.items():
                taken.setdefault((operation, name), []).extend(_timed(functions[operation], calls))
    return [
        Timing(
            operation=operation,
            milliseconds={name: statistics.median(taken[operation, name]) * 1000 for name in contestants},
        )
        for operation in OPERATIONS
    ]


def verdict(timings: Sequence[Timing], *, allowed: float = ALLOWED) -> tuple[bool, str]:
    """Whether every operation is within what it may take, and a table."""
    names = list(timings[0].milliseconds)
    lines = [f"{'':8}" + "".join(f"{name:>14}" for name in names) + f"{'by boto3':>10}"]
    for timing in timings:
        figures = "".join(f"{timing.milliseconds[name]:>11.3f} ms" for name in names)
        lines.append(f"{timing.operation:8}{figures}{timing.ratio:>10.2f}")
    dear = [timing.operation for timing in timings if timing.ratio > allowed]
    if dear:
        lines.append(f"More than {allowed:g} of what boto3 takes: {', '.join(dear)}.")
    return not dear, "\n".join(lines)


def _timed(call: Call, calls: int) -> list[float]:
    taken = []
    for number in range(calls):
        began = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - began)
    return taken


def _ours(stack: contextlib.ExitStack, endpoint: S3Endpoint, source: Path, place: Path) -> dict[str, Call]:
    connection = stack.enter_context(
        s3_uploader.S3Connection(
            endpoint.access_key,
            endpoint.secret_key,
            endpoint.bucket,
            endpoint.endpoint_url,
            region=endpoint.region,
            engine="native",
        )
    )
    store = s3_uploader.RemoteStore(connection)

    def sure(succeeded: bool) -> None:
        if not succeeded:
            raise ValueError("a call of s3_uploader failed")

    return {
        "prepare": lambda number: sure(store.write(source, f"kept/ours-{number}")),
        "write": lambda number: sure(store.write(source, f"ours-{number}")),
        "read": lambda number: sure(store.read(f"kept/ours-{number}", place / f"ours-{number}")[0]),
        "exists": lambda number: sure(store.exists(f"kept/ours-{number}")[0]),
        "delete": lambda number: sure(store.delete(f"ours-{number}")),
    }


def _boto3(stack: contextlib.ExitStack, endpoint: S3Endpoint, source: Path, place: Path) -> dict[str, Call]:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint.endpoint_url,
        aws_access_key_id=endpoint.access_key,
        aws_secret_access_key=endpoint.secret_key,
        region_name=endpoint.region,
    )
    stack.callback(client.close)
    bucket = endpoint.bucket

    def write(key: str) -> None:
        with source.open("rb") as file:
            client.put_object(Bucket=bucket, Key=key, Body=file)

    def read(number: int) -> None:
        content = client.get_object(Bucket=bucket, Key=f"kept/boto3-{number}")["Body"].read()
        (place / f"boto3-{number}").write_bytes(content)

    return {
        "prepare": lambda number: write(f"kept/boto3-{number}"),
        "write": lambda number: write(f"boto3-{number}"),
        "read": read,
        "exists": lambda number: client.head_object(Bucket=bucket, Key=f"kept/boto3-{number}"),
        "delete": lambda number: client.delete_object(Bucket=bucket, Key=f"boto3-{number}"),
    }


def _obstore(endpoint: S3Endpoint, source: Path, place: Path) -> dict[str, Call]:
    """The calls of obstore; none where it is not installed."""
    try:
        obstore: Any = importlib.import_module("obstore")
        stores: Any = importlib.import_module("obstore.store")
    except ImportError:
        return {}
    store = stores.S3Store(
        endpoint.bucket,
        endpoint=endpoint.endpoint_url,
        access_key_id=endpoint.access_key,
        secret_access_key=endpoint.secret_key,
        region=endpoint.region,
        client_options={"allow_http": True},
    )

    def read(number: int) -> None:
        content = obstore.get(store, f"kept/obstore-{number}").bytes()
        (place / f"obstore-{number}").write_bytes(bytes(content))

    return {
        "prepare": lambda number: obstore.put(store, f"kept/obstore-{number}", source),
        "write": lambda number: obstore.put(store, f"obstore-{number}", source),
        "read": read,
        "exists": lambda number: obstore.head(store, f"kept/obstore-{number}"),
        "delete": lambda number: obstore.delete(store, f"obstore-{number}"),
    }
