"""The server's own hash of a file: the extension ``check-file`` (draft-ietf-secsh-filexfer-extensions-00, 3).

ProFTPD and some commercial servers support it, OpenSSH does not. asyncssh has no function for it, so a private name of
its handler is used. If that is missing, there are no hashes; everything else works.
"""

from __future__ import annotations

import struct
from typing import Any

ALGORITHM = "sha256"
_REPLY = 201  # SSH_FXP_EXTENDED_REPLY
_DIGEST_BYTES = 32
_REQUEST = b"check-file-name"


async def check_file(client: Any, path: bytes) -> str:
    """The SHA-256 of a file in hexadecimal; empty if the answer is invalid, or the request is impossible.

    :raises asyncssh.SFTPError: if the server refuses.
    """
    try:
        handler = client._handler
        make_request = handler._make_request
        # Otherwise the handler would not accept the answer.
        handler._return_types = {**handler._return_types, _REQUEST: _REPLY}
    except AttributeError:
        return ""
    whole = struct.pack(">QQI", 0, 0, 0)
    answer = await make_request(_REQUEST, _string(path), _string(ALGORITHM.encode()), whole)
    try:
        return parse_answer(answer.get_remaining_payload())
    except AttributeError:
        return ""


def parse_answer(payload: bytes) -> str:
    """The digest in an answer. Some servers put the name of the extension first, others omit it."""
    words: list[bytes] = []
    while len(payload) >= 4 and len(words) < 2:
        size = int.from_bytes(payload[:4], "big")
        if size > 64 or size > len(payload) - 4:
            break
        words.append(payload[4 : 4 + size])
        payload = payload[4 + size :]
        if words[-1] == ALGORITHM.encode():
            return payload.hex() if len(payload) == _DIGEST_BYTES else ""
    return ""


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value
