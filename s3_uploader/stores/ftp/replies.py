"""Parses the answers of FTP servers: replies, features, digests, times and names. Does not use the network.

Terms
-----
refused
    The server answered a command with a 4xx or 5xx reply; the connection still works.
lost
    The connection no longer works: it was cut, silent for too long, or out of step.
"""

from __future__ import annotations

import calendar
import os
import re

import msgspec

from s3_uploader.core.origins import Origin
from s3_uploader.core.text import LONGEST_QUOTE, quoted
from s3_uploader.stores.file_servers import base as file_servers
from s3_uploader.stores.file_servers.base import Lost

__all__ = ["Lost", "Refused"]

UNKNOWN_COMMAND = (500, 502, 504)
"""Reply codes for a command that the server does not know."""
_FULL = (452, 552)
"""Reply codes for a full disk: 452 is temporary, 552 concerns the account or one file."""
_MAY_BE_FULL = (450, 451, 550, 553, 554)
"""Codes with which servers pass on why their system has refused a file or directory (ProFTPD, Pure-FTPd, pyftpdlib)."""
_NO_ROOM = re.compile(
    r"\b(?:no space left(?: on (?:the )?(?:device|disk))?|"
    r"(?:not enough|insufficient) (?:disk |storage )?space(?: on the disk)?|"
    r"(?:disk )?quota (?:is )?exceeded|(?:disk|device|file ?system) (?:is )?full)[\s.!]*\Z",
    re.I,
)
"""The reason at the end of a reply; before it there may be the name of the file, with any words in it."""
_TOO_MANY = re.compile(
    r"\b(?:too many|max(?:imum)?\b.{0,20}\b(?:clients|connections|users|logins|sessions|hosts)|"
    r"limit\b.{0,20}\b(?:reached|exceeded)|try (?:again )?later)\b",
    re.I,
)
_DENIED = re.compile(r"\b(?:denied|forbidden|not (?:permitted|allowed|authorized)|no (?:permission|access))\b", re.I)
_PASSWORD = re.compile(r"\b(?:attempts|failures|failed|incorrect|invalid|password)\b", re.I)
_ORIGINS = {
    **dict.fromkeys((430, 530, 532), Origin.CREDENTIALS),
    **dict.fromkeys((550, 553), Origin.DIRECTORY),
    **dict.fromkeys((533, 534, 535, 536), Origin.SETTING),
    **dict.fromkeys((501, 502, 504), Origin.SERVER),
    522: Origin.CERTIFICATE,
}


class Refused(file_servers.Refused):
    """The server refused a command: ``code`` is the number of its reply, ``verb`` the command's first word."""

    def __init__(self, reply: str, verb: str = "") -> None:
        self.code = int(reply[:3]) if reply[:3].isascii() and reply[:3].isdigit() else 0
        self.reply = reply[: 4 * LONGEST_QUOTE]
        self.verb = verb
        super().__init__(shown_reply(reply))

    @property
    def is_one_too_many(self) -> bool:
        """421, or 530, which also means a wrong password; in answer to a login, any temporary refusal."""
        return self.code in (421, 530) or (self.step in ("connect", "login") and self.is_for_now)

    @property
    def is_for_now(self) -> bool:
        """4xx is temporary (RFC 959, 4.2.1), such as 421 for too many connections. 430 means a wrong password.

        ProFTPD and others answer 530 for both and tell them apart in words.
        """
        if self.code == 530:
            return _TOO_MANY.search(self.reply) is not None and _PASSWORD.search(self.reply) is None
        return 400 <= self.code < 500 and self.code != 430

    @property
    def is_absence(self) -> bool:
        """The replies to MLSD for a missing directory; pyftpdlib uses 501, as for a wrong argument."""
        return self.code in (450, 501, 550, 553)

    @property
    def is_denial(self) -> bool:
        """Whether the reply says that something may not be done, by its words: 550 is a file that is missing, too."""
        return _DENIED.search(self.reply) is not None

    @property
    def may_be_the_name(self) -> bool:
        """550 and similar codes."""
        return self.code in (450, 501, 550, 551, 553) and not self.lacks_room

    @property
    def may_be_of_all(self) -> bool:
        """550 and 553, in answer to a new file or directory."""
        return self.code in (550, 553) and self.verb in ("STOR", "MKD") and not self.lacks_room

    @property
    def lacks_room(self) -> bool:
        """Whether the disk, its inodes or a quota are used up, by the number of the reply or by its words."""
        return self.code in _FULL or (self.code in _MAY_BE_FULL and _NO_ROOM.search(self.reply) is not None)

    @property
    def is_of_a_directory(self) -> bool:
        """Whether a directory could not be made."""
        return self.verb == "MKD"

    @property
    def lists_nothing(self) -> bool:
        """Whether a command for listings is unknown."""
        return self.verb in ("MLSD", "LIST") and self.code in UNKNOWN_COMMAND

    @property
    def error_code(self) -> str:
        """The reply's number."""
        return str(self.code)

    @property
    def origin(self) -> Origin:
        """The origin by the number of the reply (RFC 959, RFC 4217). 4xx is temporary."""
        if self.lacks_room:
            return Origin.FULL
        if self.is_for_now:
            return Origin.UNREACHABLE
        return _ORIGINS.get(self.code, Origin.SERVER if self.code >= 500 else Origin.UNREACHABLE)


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """The server's features as it reports them (``FEAT``, RFC 2389).

    :param hash_command: ``HASH`` (draft-bryan-ftpext-hash), one of the ``X…`` commands, or empty.
    :param algorithm: the algorithm of that command as :func:`hashlib.new` spells it, or ``crc32``.
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
    """Parse the reply to ``FEAT``. The strongest hash is chosen."""
    # RFC 2389 requires a blank before each; some servers repeat the code.
    lines = [line.removeprefix("211-").strip() for line in reply.split("\n")[1:-1]]
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

    The commands have no common form. ProFTPD answers ``213 SHA-256 0-5 <digest> name`` or ``250 <DIGEST>``; others add
    quotes, the command or the name. A name of hexadecimal digits follows the digest in every known form, so the first
    match is the digest.
    """
    length = _DIGITS[algorithm]
    last = reply.split("\n")[-1]
    # Some servers omit a CRC's leading zeros.
    pattern = r"[0-9a-fA-F]{1,8}" if algorithm == "crc32" else rf"[0-9a-fA-F]{{{length}}}"
    for word in re.split(r"[\s\"']+", last[4:]):
        if re.fullmatch(pattern, word):
            return word.lower().rjust(length, "0")
    return ""


def parse_time(reply: str) -> float | None:
    """Seconds since the epoch in a reply to ``MDTM`` or a ``modify`` fact: ``20261120132846``, UTC (RFC 3659)."""
    found = _TIME.search(reply)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups())
    if not (year >= 1970 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        return None
    return float(calendar.timegm((year, month, day, hour, minute, second)))


_TIME = re.compile(
    r"(?<![0-9A-Za-z_])([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})(?:\.[0-9]+)?(?![0-9A-Za-z_])"
)


def wire(path: str) -> str:
    """Encode a path for the control connection."""
    return os.fsencode(path).decode("latin-1")


def unwire(text: str) -> str:
    """Decode a path from the control connection."""
    return os.fsdecode(text.encode("latin-1"))


def shown_reply(reply: str) -> str:
    """A reply for a message: on one line, without the final full stop, and shortened."""
    text = " ".join(reply[: 2 * LONGEST_QUOTE].split()).rstrip(".")
    return quoted(text.encode("latin-1", "replace").decode("utf-8", "replace"))


def fact(reply: str, name: str) -> str:
    """One fact of a reply to ``MLST``: ``size=5;modify=20261120132846; /name``."""
    for line in reply.split("\n"):
        for item in _CODE.sub("", line).strip().partition(" ")[0].split(";"):
            key, equals, value = item.partition("=")
            if equals and key.strip().lower() == name:
                return value.strip()
    return ""


_CODE = re.compile("^[1-5][0-9]{2}[- ]")
_DELIMITED_PORT = re.compile(r"\((.)\1\1([0-9]{1,5})\1\)")
_ADDRESS_AND_PORT = re.compile(r"(?<![0-9])(?:[0-9]{1,3} ?, ?){4}([0-9]{1,3}) ?, ?([0-9]{1,3})(?![0-9])")


def parse_passive(reply: str) -> int | None:
    """The port in a reply to ``EPSV`` (RFC 2428) or ``PASV`` (RFC 959); ``None`` if there is none."""
    found = _DELIMITED_PORT.search(reply)
    if found:
        port = int(found[2])
    else:
        found = _ADDRESS_AND_PORT.search(reply)
        if not found:
            return None
        port = int(found[1]) * 256 + int(found[2])
    return port if 0 < port < 1 << 16 else None


def parse_working_directory(reply: str) -> str:
    """The path in a reply to ``PWD``, in which quotes are doubled; empty if there is none."""
    found = re.match(r'257 "((?:[^"]|"")*)"', reply)
    return unwire(found[1].replace('""', '"')) if found else ""


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
