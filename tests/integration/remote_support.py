"""Connections of the object API to the servers of the tests."""

from __future__ import annotations

from typing import Any

import s3_uploader as s3
from tests.servers.base import S3Endpoint


def connect(endpoint: S3Endpoint, **options: Any) -> s3.S3Connection:
    """A connection to the endpoint's bucket."""
    return s3.S3Connection(
        endpoint.access_key,
        endpoint.secret_key,
        endpoint.bucket,
        endpoint.endpoint_url,
        region=endpoint.region,
        ca_file=str(endpoint.ca_bundle) if endpoint.ca_bundle else None,
        **options,
    )
