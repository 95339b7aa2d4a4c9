"""From a request of the store to what goes over the wire: target, headers, signature. For the engines that sign."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from s3_uploader.stores.s3.endpoint import Access, Endpoint, locate
from s3_uploader.stores.s3.engines.base import Request
from s3_uploader.stores.s3.engines.sigv4 import Signer


class SignedRequests:
    """Makes requests to one bucket ready to be sent."""

    def __init__(self, access: Access, *, wall_clock: Callable[[], float] = time.time) -> None:
        from s3_uploader._version import __version__

        self.endpoint: Endpoint = access.endpoint
        self._signer = Signer(region=access.endpoint.region, credentials=access.credentials, wall_clock=wall_clock)
        self._agent = f"s3_uploader/{__version__}"

    def prepare(self, request: Request) -> tuple[str, dict[str, str]]:
        """The request's target and all of its headers.

        :raises StoreError: if there are no credentials.
        """
        endpoint = self.endpoint
        path = f"{endpoint.path}/{request.path}"
        query = ""
        if request.query:
            from urllib.parse import quote

            query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in request.query)
        headers = {"host": endpoint.host_header, **request.headers}
        self._signer.sign(
            method=request.method, path=path, query=query, headers=headers, payload_hash=request.payload_hash
        )
        headers["user-agent"] = self._agent
        if request.body or request.method in ("PUT", "POST"):
            headers["content-length"] = str(len(request.body))
        target = f"{path}?{query}" if query else path
        if endpoint.proxy is not None and not endpoint.tls:
            target = f"http://{endpoint.host_header}{target}"
            if endpoint.proxy.authorization:
                headers["proxy-authorization"] = endpoint.proxy.authorization
        return target, headers

    def move_to(self, region: str) -> bool:
        """Go to the same bucket in another region, where that is a matter of names."""
        endpoint = self.endpoint
        if endpoint.given or region == endpoint.region:
            return False
        moved = locate(
            bucket=endpoint.bucket,
            endpoint_url=None,
            region=region,
            addressing_style="virtual" if endpoint.virtual else "path",
            ca_bundle=endpoint.ca_file,
            special="",
            environment={},
        )
        self._signer.region = region
        self.endpoint = msgspec.structs.replace(moved, proxy=endpoint.proxy)
        return True
