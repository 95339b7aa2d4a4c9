"""Presigned URLs, which allow anybody to make one request for a limited time.

Reference: "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" in the Amazon S3 API reference.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import quote

from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.endpoint import Endpoint
from s3_uploader.stores.s3.engines.base import UNSIGNED_PAYLOAD
from s3_uploader.stores.s3.engines.sigv4 import signing_key


def presigned_url(
    endpoint: Endpoint,
    credentials: Credentials,
    *,
    method: str,
    path: str,
    seconds: int,
    now: float,
    headers: Mapping[str, str] | None = None,
) -> str:
    """Sign a URL.

    :param path: the key, percent-encoded.
    :param seconds: how long it is valid, beginning at ``now``, seconds since the epoch.
    :param headers: names in lower case; the request must send them unchanged.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    scope = f"{stamp[:8]}/{endpoint.region}/s3/aws4_request"
    signed = {"host": endpoint.host_header, **(headers or {})}
    names = ";".join(sorted(signed))
    parameters = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": names,
    }
    if credentials.token:
        parameters["X-Amz-Security-Token"] = credentials.token
    query = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(parameters.items()))
    target = f"{endpoint.path}/{path}"
    lines = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in sorted(signed))
    canonical = f"{method}\n{target}\n{query}\n{lines}\n{names}\n{UNSIGNED_PAYLOAD}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = signing_key(credentials, stamp[:8], endpoint.region)
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
    scheme = "https" if endpoint.tls else "http"
    return f"{scheme}://{endpoint.host_header}{target}?{query}&X-Amz-Signature={signature}"
