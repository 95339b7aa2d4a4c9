"""Whether moto's ``mock_aws`` is active in this process: it stands in for botocore, and sockets of our own pass it by.

A test that believes in its mock would write to the real bucket otherwise. moto is never imported for the question.
"""

from __future__ import annotations

import enum
import sys


class Mock(enum.Enum):
    """What moto stands in for."""

    NONE = "nothing"
    BOTOCORE = "what botocore sends, in this process"
    CLIENTS = "clients of boto3.client, which it sends to a server or a proxy of its own"


def active_mock() -> Mock:
    """What moto stands in for at the moment."""
    models = sys.modules.get("moto.core.models")
    if models is None:
        return Mock.NONE
    # Every mode but that of a server or a proxy works by this stub; moto 4 and 5 have it.
    if getattr(getattr(models, "botocore_stubber", None), "enabled", False):
        return Mock.BOTOCORE
    for name in ("ServerModeMockAWS", "ProxyModeMockAWS"):
        if getattr(getattr(models, name, None), "_mocks_active", False):
            return Mock.CLIENTS
    return Mock.NONE
