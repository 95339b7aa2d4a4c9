"""The choice of another engine than the native one: boto3, where the settings or moto's mocks need it."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable

from s3_uploader.core.errors import EngineUnavailable
from s3_uploader.stores.s3.endpoint import Access
from s3_uploader.stores.s3.engines.base import MOTO, Engine, EngineName, EngineSettings


class Mock(enum.Enum):
    """What moto replaces."""

    NONE = "nothing"
    BOTOCORE = "what botocore sends, in this process"
    CLIENTS = "clients of boto3.client, which it sends to a server or a proxy of its own"


def active_mock() -> Mock:
    """What moto's ``mock_aws`` replaces at the moment.

    It replaces botocore, and sockets of our own bypass it: a test with a mock would write to the real bucket. moto is
    never imported for this check.
    """
    models = sys.modules.get(MOTO)
    if models is None:
        return Mock.NONE
    # Every mode except that of a server or a proxy uses this stub; moto 4 and 5 have it.
    if getattr(getattr(models, "botocore_stubber", None), "enabled", False):
        return Mock.BOTOCORE
    for name in ("ServerModeMockAWS", "ProxyModeMockAWS"):
        if getattr(getattr(models, name, None), "_mocks_active", False):
            return Mock.CLIENTS
    return Mock.NONE


def other_engine(
    access: Access, name: EngineName, settings: EngineSettings, notice: Callable[[str, str], None]
) -> Engine | None:
    """Make the engine that is used instead of the native one, without opening it; ``None`` if that can be used.

    :raises EngineUnavailable: if the engine of that name does not support the other settings.
    :raises StoreError: if the client certificate cannot be used.
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
    if name == "native" and only_boto3:
        raise EngineUnavailable(
            f"The engine {name} cannot be used: {only_boto3}.",
            hint="Remove engine, or set it to boto3.",
        )
    if name == "auto" and only_boto3:
        notice("info", f"Uploads go through boto3, because {only_boto3}.")
    elif name != "boto3":
        return None
    from s3_uploader.stores.s3.engines.boto3 import Boto3Engine

    ca_file = access.endpoint.ca_file if access.endpoint.tls else None
    if ca_file is not None or access.endpoint.client_certificate_file is not None:
        from s3_uploader.stores.s3.engines.tls import make_tls_context

        # botocore would ask for the passphrase of a key at the terminal, and wait for a named pipe.
        make_tls_context(ca_file, access.endpoint.client_certificate_file)
    return Boto3Engine(access=access, settings=settings)
