"""The program's errors for the failures of an FTP server: cause, scope and advice."""

from __future__ import annotations

import re

from s3_uploader.core.errors import KeyRefused, Scope, StoreError
from s3_uploader.core.meanings import of_one_file
from s3_uploader.core.origins import Origin
from s3_uploader.stores.file_servers.base import without_descriptors
from s3_uploader.stores.ftp.replies import Lost, Refused

_OF_STEP = {
    "connect": Origin.SERVER,
    "tls": Origin.SETTING,
    "login": Origin.CREDENTIALS,
    "path": Origin.DIRECTORY,
}
"""The origin of a permanent refusal, by the step of the login."""

_DEMANDS_TLS = re.compile(r"\b(?:tls|ssl|ftps|encrypt\w*|clear-?text|(?-i:AUTH))\b", re.I)
"""How servers say that they accept a login over TLS only (vsftpd: 530, ProFTPD and pyftpdlib: 550, Pure-FTPd: 421)."""
_TRIED_AGAIN = "The next run tries again. If this lasts, ask who runs the server."
_PASSIVE = ("PASV", "EPSV")
_NO_PASSIVE_MODE = (
    "Files are sent over connections that this machine opens. Enable passive mode (PASV or EPSV) at the server."
)


def login_error(error: Refused | Lost, *, server: str, user: str, path: str, tls: bool) -> StoreError:
    """The error for a failed login; ``server`` is ``host:port``."""
    if isinstance(error, Refused):
        return _refused_login(error, server=server, user=user, path=path, tls=tls)
    if error.lacks_descriptors:
        return without_descriptors(server)
    origin = Origin.UNREACHABLE
    what = f"Cannot connect to the FTP server {server}: {error.reason}."
    hint = "Check the host and the port, and whether the server runs."
    if error.step == "tls":
        origin = Origin.CERTIFICATE if "certificate" in error.reason else Origin.UNREACHABLE
        hint = "Name the certificate authority that signed it in ca_file." if "certificate" in error.reason else ""
    elif "does not speak FTP" in error.reason or (error.step == "connect" and "no answer" in error.reason):
        hint = "Check the host and the port" + ("; implicit FTPS (port 990) is not supported." if tls else ".")
    return StoreError(
        what,
        code="ConnectionFailed",
        retryable=True,
        scope=Scope.DESTINATION,
        hint=hint,
        origin=origin,
        never_connected=True,
    )


def _refused_login(error: Refused, *, server: str, user: str, path: str, tls: bool) -> StoreError:
    hint = ""
    if error.step == "login" and not tls and _DEMANDS_TLS.search(error.text):
        return StoreError(
            f"The FTP server {server} accepts logins over TLS only: {error.text}.",
            code=str(error.code),
            scope=Scope.DESTINATION,
            hint="Set tls to true.",
            origin=Origin.SETTING,
        )
    if error.step in ("login", "tls") and error.is_for_now:
        message = f"The FTP server {server} does not accept the user {user} at the moment: {error.text}."
        hint = _TRIED_AGAIN
    elif error.step == "connect":
        message = f"The FTP server {server} refuses the connection: {error.text}."
    elif error.step == "tls":
        message = f"The FTP server {server} does not offer TLS: {error.text}."
        hint = "Set tls to false only on a trusted network, because the password is then sent in plain text."
    elif error.step == "login":
        message = f"The FTP server {server} refuses the user {user}: {error.text}."
        hint = "Check the user name and the password."
    elif error.step == "path":
        message = f"The directory {path} on the FTP server {server} cannot be entered: {error.text}."
        hint = "Check the path; the directory must exist."
    else:
        message = f"The FTP server {server} refuses what every upload needs: {error.text}."
    return StoreError(
        message,
        code=str(error.code),
        retryable=error.is_for_now,
        scope=Scope.DESTINATION,
        hint=hint,
        origin=_origin_of_login(error),
    )


def _origin_of_login(error: Refused) -> Origin:
    """The origin by the step of the login, because servers use many numbers for the same refusal."""
    if error.code < 500 or error.is_for_now or error.lacks_room or error.code == 522:
        return error.origin
    if error.step == "login" and error.origin is Origin.SETTING:
        return Origin.SETTING  # the server insists on TLS
    if error.step == "path" and error.origin is Origin.CREDENTIALS:
        return Origin.CREDENTIALS
    return _OF_STEP.get(error.step, error.origin)


def transfer_error(error: Refused | Lost, *, address: str) -> StoreError:
    """The error of an upload to ``address`` that failed after the connection was established."""
    if isinstance(error, Lost):
        if error.lacks_descriptors:
            return without_descriptors(address)
        if error.data:
            return StoreError(
                f"The FTP server's data connection for {address} cannot be opened: {error.reason}.",
                code="DataConnectionFailed",
                retryable=True,
                scope=Scope.DESTINATION,
                hint="Check the firewalls between this machine and the server's passive ports.",
            )
        return StoreError(
            f"The FTP connection was lost during the upload to {address}: {error.reason}.",
            code="ConnectionLost",
            retryable=True,
        )
    return _refused_transfer(error, address)


def _refused_transfer(error: Refused, address: str) -> StoreError:
    message = f"The FTP server refuses the upload to {address}: {error.text}."
    code = error.code
    if error.lacks_room:
        return StoreError(message, code=str(code), hint="Make room there.", origin=Origin.FULL)
    if code in (425, 522):
        # Servers that require resumed TLS sessions also answer 522 (ProFTPD: 425).
        return StoreError(
            message,
            code=str(code),
            retryable=code == 425,
            scope=Scope.DESTINATION,
            hint="Check the firewalls between this machine and the server's passive ports, and its TLS settings.",
            origin=error.origin,
        )
    if 400 <= code < 500:
        return StoreError(message, code=str(code), retryable=True)
    if code in (530, 532, 533, 534, 535, 536):
        return StoreError(
            message, code=str(code), retryable=error.is_for_now, scope=Scope.DESTINATION, origin=error.origin
        )
    if error.verb in (*_PASSIVE, "TYPE") and code < 600:
        hint = _NO_PASSIVE_MODE if error.verb in _PASSIVE else ""
        return StoreError(message, code=str(code), scope=Scope.DESTINATION, hint=hint, origin=Origin.SERVER)
    if code in (502, 504):
        hint = "The server lacks a needed command."
        return StoreError(message, code=str(code), scope=Scope.DESTINATION, hint=hint, origin=Origin.SERVER)
    if code in (500, 501):
        # The command was known, so its argument is at fault: too long, or bytes that the server cannot decode.
        return KeyRefused(message)
    hint = "Check the permissions of the FTP user there." if code in (550, 553) else ""
    return StoreError(message, code=str(code), hint=hint, origin=of_one_file(error.origin))
