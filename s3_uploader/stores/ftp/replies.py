"""What FTP servers answer: replies, features, digests, times and names, as values. No network in here.

Terms
-----
refused
    The server answered a command with a 4xx or 5xx reply; the connection is fine.
lost
    The connection is of no use any more: cut, silent for too long, or out of step.
"""

from __future__ import annotations

import os
import re
import time

import msgspec

from s3_uploader.core.text import shown_text


class Refused(Exception):
    """The server said no: ``code`` is the reply's number, ``text`` the whole reply, ``verb`` the command's first word.

    ``step`` is how far the login came (:attr:`Session.step`).
    """

    def __init__(self, reply: str, verb: str = "") -> None:
        self.code = int(reply[:3]) if reply[:3].isdigit() else 0
        self.text = shown_reply(reply)
        self.verb = verb
        self.step = ""
        super().__init__(self.text)


class Lost(Exception):
    """The connection is lost; ``data`` is whether it was a data connection that could not be opened."""

    def __init__(self, reason: str, *, data: bool = False) -> None:
        self.reason = reason
        self.data = data
        self.step = ""
        super().__init__(reason)


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says that it can do (``FEAT``, RFC 2389).

    :param hash_command: ``HASH`` (draft-bryan-ftpext-hash), one of the ``X…`` commands, or empty.
    :param algorithm: what that computes, as :func:`hashlib.new` spells it, or ``crc32``.
    """

    utf8: bool
    mlst: bool
    mdtm: bool
    hash_command: str
    algorithm: str


_HASH_NAMES = {"SHA-256": "sha256", "SHA-512": "sha512", "SHA-1": "sha1", "MD5": "md5", "CRC32": "crc32"}
_HASH_COMMANDS = {
    "XSHA256": "sha256",
    "XSHA512": "sha512",
    "XSHA1": "sha1",
    "XSHA": "sha1",
    "XMD5": "md5",
    "XCRC": "crc32",
}
_DIGITS = {"sha256": 64, "sha512": 128, "sha1": 40, "md5": 32, "crc32": 8}


def parse_features(reply: str) -> Features:
    """Read the reply to ``FEAT``; the strongest hash wins."""
    lines = [line.strip() for line in reply.splitlines() if line.startswith(" ")]
    names = {line.partition(" ")[0].upper(): line.partition(" ")[2] for line in lines}
    hash_command, algorithm = "", ""
    offered = {name.strip(" *").upper() for name in names.get("HASH", "").split(";")}
    for name, known in _HASH_NAMES.items():
        if name in offered:
            hash_command, algorithm = f"HASH {name}", known
            break
    else:
        for name, known in _HASH_COMMANDS.items():
            if name in names:
                hash_command, algorithm = name, known
                break
    return Features(
        utf8="UTF8" in names,
        mlst="MLST" in names,
        mdtm="MDTM" in names,
        hash_command=hash_command,
        algorithm=algorithm,
    )


def parse_digest(reply: str, algorithm: str) -> str:
    """The digest in a reply, in lower case; empty if there is none.

    The commands have no common form: ProFTPD answers ``213 SHA-256 0-5 <digest> name`` or ``250 <DIGEST>``, others put
    quotes, the command or the name around it. A name of hexadecimal digits could come after the digest, not before it,
    in every form known.
    """
    length = _DIGITS[algorithm]
    last = reply.splitlines()[-1] if reply else ""
    # Some servers leave out a CRC's leading zeros.
    pattern = r"[0-9a-fA-F]{1,8}" if algorithm == "crc32" else rf"[0-9a-fA-F]{{{length}}}"
    for word in re.split(r"[\s\"']+", last[4:]):
        if re.fullmatch(pattern, word):
            return word.lower().rjust(length, "0")
    return ""


def parse_time(reply: str) -> float | None:
    """Seconds since the epoch in a reply to ``MDTM`` or a ``modify`` fact: ``20261120132846``, UTC (RFC 3659)."""
    found = re.search(r"\b(\d{14})(?:\.\d+)?\b", reply)
    if found is None:
        return None
    import calendar

    try:
        return float(calendar.timegm(time.strptime(found[1], "%Y%m%d%H%M%S")))
    except ValueError:
        return None


def wire(path: str) -> str:
    """A path as the control connection carries it."""
    return os.fsencode(path).decode("latin-1")


def unwire(text: str) -> str:
    """A path from the control connection."""
    return os.fsdecode(text.encode("latin-1"))


def shown_reply(reply: str) -> str:
    """A reply for a message: on one line, without the full stop at its end."""
    text = " ".join(reply.split()).rstrip(".")
    return shown_text(text.encode("latin-1", "replace").decode("utf-8", "replace"))


def fact(reply: str, name: str) -> str:
    """One fact of a reply to ``MLST``: ``size=5;modify=20261120132846; /name``."""
    for line in reply.splitlines():
        if line.startswith(" "):
            for item in line.strip().partition(" ")[0].split(";"):
                key, _, value = item.partition("=")
                if key.lower() == name:
                    return value
    return ""


class Listed(msgspec.Struct, frozen=True):
    """One line of a listing: the name in the form of :func:`os.fsdecode`; ``kind`` is ``file`` or ``dir`` or other."""

    name: str
    kind: str
    size: int | None
    modified: float | None


def parse_listing(data: bytes) -> list[Listed]:
    """What ``MLSD`` sent (RFC 3659, 7.2): ``type=file;size=5;modify=20261120132846; name``."""
    found = []
    # By the bytes: a name may hold what str.splitlines takes for the end of a line.
    for line in data.split(b"\r\n"):
        facts, space, name = line.partition(b" ")
        if not space:
            continue
        values = {}
        for item in facts.decode("latin-1").split(";"):
            key, _, value = item.partition("=")
            values[key.lower()] = value
        size = values.get("size", "")
        found.append(
            Listed(
                name=os.fsdecode(name),
                kind=values.get("type", "").lower(),
                size=int(size) if size.isdigit() else None,
                modified=parse_time(values.get("modify", "")),
            )
        )
    return found


def os_reason(error: BaseException) -> str:
    """Why a connection failed, as the end of a sentence."""
    import socket
    import ssl

    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    if isinstance(error, socket.gaierror):
        return "the host name cannot be resolved"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
