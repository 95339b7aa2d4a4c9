"""Whether moto's ``mock_aws`` is active in this process. It replaces botocore, and sockets of our own bypass it.

Otherwise a test with a mock would write to the real bucket. moto is never imported for this check.
"""

from __future__ import annotations

import enum
import sys


class Mock(enum.Enum):
    """What moto replaces."""

    NONE = "nothing"
    BOTOCORE = "what botocore sends, in this process"
    CLIENTS = "clients of boto3.client, which it sends to a server or a proxy of its own"


def active_mock() -> Mock:
    """What moto replaces at the moment."""
    models = sys.modules.get("moto.core.models")
    if models is None:
        return Mock.NONE
    # Every mode except that of a server or a proxy uses this stub; moto 4 and 5 have it.
    if getattr(getattr(models, "botocore_stubber", None), "enabled", False):
        return Mock.BOTOCORE
    for name in ("ServerModeMockAWS", "ProxyModeMockAWS"):
        if getattr(getattr(models, name, None), "_mocks_active", False):
            return Mock.CLIENTS
    return Mock.NONE
