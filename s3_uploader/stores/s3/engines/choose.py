"""The choice of the engine: the native one if it supports the settings, else boto3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from s3_uploader.core.errors import EngineUnavailable
from s3_uploader.stores.s3.access import Access
from s3_uploader.stores.s3.engines.base import Engine, EngineSettings
from s3_uploader.stores.s3.engines.mocked import Mock, active_mock

EngineName: TypeAlias = Literal["auto", "native", "boto3"]


def make_engine(
    access: Access, name: EngineName, settings: EngineSettings, notice: Callable[[str, str], None]
) -> Engine:
    """Make the engine of that name, without opening it.

    :raises EngineUnavailable: if it does not support the other settings.
    """
    mock = active_mock()
    if mock is Mock.CLIENTS and not access.endpoint.given:
        raise EngineUnavailable(
            "moto's mock_aws is active in the mode of a server or a proxy, which only boto3.client supports.",
            hint="Set endpoint_url to moto's server.",
        )
    only_boto3 = access.endpoint.only_boto3
    if not only_boto3 and mock is Mock.BOTOCORE:
        only_boto3 = "moto's mock_aws is active, which replaces botocore only"
    if name == "auto":
        if not only_boto3:
            return _native(access, settings)
        notice("info", f"Uploads go through boto3, because {only_boto3}.")
        name = "boto3"
    if name == "boto3":
        from s3_uploader.stores.s3.engines.boto3 import Boto3Engine

        return Boto3Engine(access=access, settings=settings)
    if only_boto3:
        raise EngineUnavailable(
            f"The engine {name} cannot be used: {only_boto3}.",
            hint="Remove engine, or set it to boto3.",
        )
    return _native(access, settings)


def _native(access: Access, settings: EngineSettings) -> Engine:
    from s3_uploader.stores.s3.engines.native import NativeEngine

    return NativeEngine(
        access=access,
        max_connections=settings.max_connections,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        silence_seconds=settings.silence_seconds,
        max_bandwidth=settings.max_bandwidth,
    )
