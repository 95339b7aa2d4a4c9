"""The settings of an S3 store: the bucket, the objects, the transfer, and the environment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from s3_uploader.stores.base import Memory, PutOptions
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.s3.endpoint import Access
from s3_uploader.stores.s3.engines.base import Engine, EngineName, EngineSettings
from s3_uploader.stores.s3.engines.native import make_engine
from s3_uploader.stores.s3.waiting import Timer

BYTES_IN_FLIGHT = 64 * 2**20
"""Most bytes of files in memory at once."""

Notice = Callable[[str, str], None]


class BucketAddress(msgspec.Struct, frozen=True, kw_only=True):
    """The address of the bucket; see :func:`s3_uploader.stores.s3.endpoint.resolve`."""

    bucket: str
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing_style: Literal["auto", "virtual", "path"] = "auto"
    client_certificate_file: str | None = None


class ObjectSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The configured properties of every object."""

    storage_class: str | None = None
    acl: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    metadata: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    content_type: str | None = None


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """How objects are sent.

    :param multipart_threshold: largest file in bytes that is sent in one request.
    :param bytes_in_flight: most bytes of files in memory at once.
    :param key_prefix: the prefix of all keys.
    :param requester_pays: every request says that the requester pays.
    :param variants: the options of later uploads, for :meth:`S3Store.check`.
    :param retry: instead of the policy that follows from attempts and seconds.
    """

    max_concurrency: int = 256
    max_bandwidth: int | None = None
    engine: EngineName = "auto"
    multipart_threshold: int = 16 * 2**20
    part_size: int = 8 * 2**20
    connect_timeout_seconds: float = 10
    read_timeout_seconds: float = 60
    max_attempts: int = 5
    retry_seconds: float = 30
    key_prefix: str = ""
    requester_pays: bool = False
    variants: Sequence[PutOptions] = ()
    bytes_in_flight: int = BYTES_IN_FLIGHT
    retry: RetryPolicy | None = None


def _random() -> float:
    import random  # needed only for retries

    return random.random()


def _say_nothing(level: str, message: str) -> None:
    """Do nothing."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a store gets from outside: memory, notices, environment, clocks and randomness.

    :param memory: what earlier runs learned about the endpoint.
    :param acknowledged: the limits of the endpoint that cause no warning.
    :param timer: the caller's timer; without one the store makes its own.
    """

    memory: Memory | None = None
    notice: Notice = _say_nothing
    acknowledged: Sequence[str] = ()
    environment: Mapping[str, str] = os.environ
    random: Callable[[], float] = _random
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    timer: Timer | None = None
    make_engine: Callable[[Access, EngineName, EngineSettings, Notice], Engine] = make_engine
