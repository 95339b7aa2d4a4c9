"""Signatures: as the reference prints them."""

from __future__ import annotations

import pytest

from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.engines.sigv4 import Signer

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EXAMPLE_TIME = 1369353600.0  # Fri, 24 May 2013 00:00:00 GMT


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "payload_hash", "signature"),
    [
        (
            "GET",
            "/test.txt",
            "",
            {"host": "examplebucket.s3.amazonaws.com", "range": "bytes=0-9"},
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            "",
            {
                "host": "examplebucket.s3.amazonaws.com",
                "date": "Fri, 24 May 2013 00:00:00 GMT",
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
            },
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/",
            "max-keys=2&prefix=J",
            {"host": "examplebucket.s3.amazonaws.com"},
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_the_examples_of_the_reference_are_signed_as_printed(
    method: str, path: str, query: str, headers: dict[str, str], payload_hash: str, signature: str
) -> None:
    """Signatures are those of the examples in Amazon's own documentation."""
    signer = Signer(region="us-east-1", credentials=lambda: EXAMPLE, wall_clock=lambda: EXAMPLE_TIME)
    signer.sign(method=method, path=path, query=query, headers=headers, payload_hash=payload_hash)
    assert headers["authorization"].endswith(f"Signature={signature}")
    assert headers["x-amz-date"] == "20130524T000000Z"


def test_temporary_credentials_send_their_token_signed() -> None:
    """The session token travels and is part of the signature; new credentials take effect at once."""
    current = Credentials("A", "B", "token-1")
    signer = Signer(region="us-east-1", credentials=lambda: current, wall_clock=lambda: EXAMPLE_TIME)
    first: dict[str, str] = {"host": "h"}
    signer.sign(method="GET", path="/", query="", headers=first, payload_hash="x")
    assert first["x-amz-security-token"] == "token-1"
    assert "x-amz-security-token" in first["authorization"]
    current = Credentials("A2", "B2")
    second: dict[str, str] = {"host": "h"}
    signer.sign(method="GET", path="/", query="", headers=second, payload_hash="x")
    assert "Credential=A2/" in second["authorization"]
    assert "x-amz-security-token" not in second
