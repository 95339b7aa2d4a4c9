"""The trusted host keys: those of known_hosts files (``sshd(8)``), or those with a configured fingerprint.

No key is trusted on first sight.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import asyncssh
import msgspec

from s3_uploader.core.errors import Scope, StoreError, lacks_descriptors
from s3_uploader.core.files import open_at_once
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import quoted, shown_name

DEFAULT_FILES = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
PLAIN_ALGORITHMS = (
    "ssh-ed25519",
    *("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("rsa-sha2-512", "rsa-sha2-256"),
)
"""Without certificates, because an unknown authority would hide a key that could be trusted."""

_MOST_BYTES = 16 << 20
_LONGEST_LINE = 1200


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """The trust in one host.

    :param known: keys, authorities and revoked keys in asyncssh's form.
    :param fingerprints: of keys that are trusted regardless of the files.
    :param is_known: whether the files have a key or an authority of this host.
    """

    known: Any
    fingerprints: frozenset[str]
    is_known: bool


def load(file_name: str | None) -> asyncssh.SSHKnownHosts:
    """Read a file, or without a name the usual files that exist.

    :raises StoreError: if the named file cannot be read.
    :raises OSError: if there is no descriptor for one of them, which may hold revoked keys.
    """
    known = asyncssh.import_known_hosts("")
    for each in DEFAULT_FILES if file_name is None else (file_name,):
        try:
            with open_at_once(os.path.expanduser(each)) as file:
                lines = file.read(_MOST_BYTES).decode("utf-8", "replace").splitlines()
        except OSError as error:
            if lacks_descriptors(error):
                raise
            if file_name is None:
                continue
            raise StoreError(
                f"The known hosts file {shown_name(file_name)} cannot be read: {(error.strerror or '').lower()}.",
                code="HostKeyUnknown",
                origin=Origin.HOST_KEY,
                scope=Scope.DESTINATION,
            ) from None
        _take(known, lines)
    return known


def _take(known: asyncssh.SSHKnownHosts, lines: Iterable[str]) -> None:
    for line in lines:
        try:
            known.load(line)
        except ValueError:
            continue  # ssh skips it, too


def trust(
    *, file_name: str | None, fingerprints: Sequence[str], host: str, address: str, port: int, default_port: int = 22
) -> Trust:
    """The trust in a host. Fingerprints replace the files."""
    if fingerprints:
        # OpenSSH omits the padding, others do not.
        wanted = frozenset(each.strip().rstrip("=") for each in fingerprints)
        return Trust(known=([], [], [], [], [], [], []), fingerprints=wanted, is_known=False)
    known = load(file_name).match(host, address, None if port == default_port else port)
    return Trust(known=known, fingerprints=frozenset(), is_known=bool(known[0] or known[1]))


def untrusted(
    key: asyncssh.SSHKey | None, *, reason: str, host: str, port: int, file_name: str | None, trusted: Trust
) -> StoreError:
    """The error of a host key that is not trusted.

    :param key: the key, ``None`` if the key itself was not checked.
    :param reason: the library's text.
    """
    server = f"{host}:{port}"
    if key is None:
        return StoreError(
            f"The host key of the SFTP server {server} is not accepted: {quoted(reason)}.",
            code="HostKeyRefused",
            origin=Origin.HOST_KEY,
            scope=Scope.DESTINATION,
            hint="Check the lines of this host in the known hosts file, and the server's certificate.",
        )
    shown = f"{key.get_algorithm()} {key.get_fingerprint()}"
    if trusted.is_known or trusted.fingerprints:
        than = "configured in host_key_fingerprints" if trusted.fingerprints else "known"
        return StoreError(
            f"The SFTP server {server} has another host key than is {than}: {shown}.",
            code="HostKeyChanged",
            origin=Origin.HOST_KEY,
            scope=Scope.DESTINATION,
            hint="Another machine may be intercepting the connection. Ask the operator of the server. Replace the old "
            "key only if the server was given a new one.",
        )
    name = host if port == 22 else f"[{host}]:{port}"
    file = shown_name(DEFAULT_FILES[0] if file_name is None else file_name)
    line = f"{name} {_public_line(key)}"
    way = f"put this line into {file}: {line}" if len(line) < _LONGEST_LINE else "put it into host_key_fingerprints"
    return StoreError(
        f"The host key of the SFTP server {server} is not known: {shown}.",
        code="HostKeyUnknown",
        origin=Origin.HOST_KEY,
        scope=Scope.DESTINATION,
        hint=f"If that is its fingerprint, {way}",
    )


def _public_line(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key("openssh").decode("ascii", "replace").split()[:2])
