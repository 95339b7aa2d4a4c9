"""The login to an SSH server: our credentials, the trusted keys, and the meaning of each failure."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from typing import Any

import asyncssh

from s3_uploader.core.errors import Scope, StoreError, lacks_descriptors
from s3_uploader.core.files import refuse_pipe
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import quoted, shown_name
from s3_uploader.stores.file_servers import server as file_servers
from s3_uploader.stores.file_servers.base import Lost
from s3_uploader.stores.file_servers.password import without_password
from s3_uploader.stores.sftp.errors import LoginRefused
from s3_uploader.stores.sftp.known_hosts import PLAIN_ALGORITHMS, Trust, trust, untrusted

_KEEP_ALIVE_SECONDS = 20
_KEPT_ALIVE = 1000
"""Missing answers to keep-alive messages are ignored, because each request has its own timeout."""


_KEY_HINT = (
    "It must be a private key in the form of OpenSSH or PEM. If it has a passphrase, set it in the environment "
    "variable named in passphrase_env."
)


class Settings(file_servers.Settings, frozen=True, kw_only=True):
    """How to reach an SFTP server.

    :param password: empty for none.
    :param passphrase: of the private key, empty for none.
    """

    private_key_file: str | None
    passphrase: str
    known_hosts_file: str | None
    host_key_fingerprints: tuple[str, ...]


class Client(asyncssh.SSHClient):
    """Receives asyncssh's calls for one connection."""

    def __init__(self, trusted: Trust) -> None:
        self.key: asyncssh.SSHKey | None = None
        """The server's host key if it is in no file, else ``None``."""
        self.is_lost = False
        self._trusted = trusted
        self._connection: asyncssh.SSHClientConnection | None = None

    @property
    def has_host_key(self) -> bool:
        """Whether the server has proven its host key, so that the login itself has begun."""
        return self._connection is not None and self._connection.get_server_host_key() is not None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Note the connection before it is logged in."""
        self._connection = conn

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Whether a key that is in no file is trusted by its fingerprint."""
        self.key = key
        return key.get_fingerprint().rstrip("=") in self._trusted.fingerprints

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection has ended."""
        self.is_lost = True


def open_socket(settings: Settings, *, seconds: float) -> socket.socket:
    """Open a TCP connection on the calling thread, so that a hanging resolver does not block the loop.

    :raises Lost: if no connection is possible.
    """
    try:
        return socket.create_connection((settings.host, settings.port), timeout=seconds)
    except OSError as error:
        raise _lost(error) from None


def load_keys(settings: Settings) -> Any:
    """The private key of the configuration, else what asyncssh finds by itself.

    :raises LoginRefused: if it cannot be used.
    :raises Lost: if there is no descriptor for it.
    """
    if settings.private_key_file is None:
        return ()
    path = os.path.expanduser(settings.private_key_file)
    try:
        refuse_pipe(path)
        return asyncssh.load_keypairs(path, passphrase=settings.passphrase or None)
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        if lacks_descriptors(error):
            raise Lost(reason_of(error), lacks_descriptors=True) from None
        is_unreadable = isinstance(error, OSError)
        hint = "Check private_key_file; the user who runs this must be able to read it." if is_unreadable else _KEY_HINT
        reason = _os_reason(error) if isinstance(error, OSError) else quoted(str(error))
        raise _unusable(f"The private key {shown_name(settings.private_key_file)}", reason, hint) from None


def _unusable(key: str, reason: str, hint: str) -> LoginRefused:
    return LoginRefused(
        StoreError(
            f"{key} cannot be used: {reason}.",
            code="PrivateKeyUnusable",
            origin=Origin.PRIVATE_KEY,
            scope=Scope.DESTINATION,
            hint=hint,
        )
    )


def trust_for(settings: Settings, peer: socket.socket) -> Trust:
    """The trusted keys for the other end of a connection.

    :raises LoginRefused: if the known hosts file cannot be read.
    """
    try:
        return trust(
            file_name=settings.known_hosts_file,
            fingerprints=settings.host_key_fingerprints,
            host=settings.host,
            address=str(peer.getpeername()[0]).partition("%")[0],
            port=settings.port,
        )
    except StoreError as problem:
        raise LoginRefused(problem) from None
    except OSError as error:
        raise _lost(error) from None


def looks_around(settings: Settings) -> bool:
    """Whether the keys of the agent and of ``~/.ssh`` are tried, because there are no other credentials.

    An agent's keys would use up the allowed attempts before our own credentials are tried.
    """
    return settings.private_key_file is None and not settings.password


async def log_in(
    settings: Settings, client: Client, trusted: Trust, keys: Any, peer: socket.socket
) -> asyncssh.SSHClientConnection:
    """Log in over a TCP connection."""
    _make_sure_of_a_name()
    is_checked_by_files = trusted.is_known and not trusted.fingerprints
    may_look_around = looks_around(settings)
    return await asyncssh.connect(
        settings.host,
        settings.port,
        sock=peer,
        # No ~/.ssh/config, because all settings of a run are in its own configuration.
        config=None,
        client_factory=lambda: client,
        known_hosts=trusted.known,
        **({} if is_checked_by_files else {"server_host_key_algs": PLAIN_ALGORITHMS}),
        username=settings.user,
        password=settings.password or None,
        password_auth=bool(settings.password),
        kbdint_auth=bool(settings.password),
        client_keys=keys,
        public_key_auth=may_look_around or settings.private_key_file is not None,
        **({"ignore_encrypted": True} if may_look_around else {"agent_path": None}),
        gss_auth=False,
        gss_kex=False,
        disable_trivial_auth=True,
        x509_trusted_certs=None,
        # No compression, because a small packet that unpacks to a large one would not be bounded.
        compression_algs=["none"],
        # Twice as fast as asyncssh's first choice, which does in Python what these do in one call.
        encryption_algs="^aes128-gcm@openssh.com,aes256-gcm@openssh.com",
        keepalive_interval=_KEEP_ALIVE_SECONDS,
        keepalive_count_max=_KEPT_ALIVE,
        login_timeout=settings.connect_timeout_seconds,
        utf8_decode_errors="replace",
    )


def _make_sure_of_a_name() -> None:
    """Tell asyncssh the user's name and home directory, if the system has none.

    asyncssh requires both, for files that are not read here. In a container with an arbitrary user number there is
    neither, unless variables set them (:func:`getpass.getuser`, :func:`os.path.expanduser`).
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = "/"


def refusal(error: BaseException, settings: Settings, client: Client, trusted: Trust) -> LoginRefused | None:
    """The meaning of a failed login; ``None`` if there was no connection at all."""
    server = f"{settings.host}:{settings.port}"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return LoginRefused(
            untrusted(
                # For a revoked key, or one with a certificate, asyncssh does not call the client.
                client.key,
                reason=str(error.reason),
                host=settings.host,
                port=settings.port,
                file_name=settings.known_hosts_file,
                trusted=trusted,
            )
        )
    if isinstance(error, asyncssh.PermissionDenied):
        reason = quoted(without_password(str(error.reason), settings.password))
        return LoginRefused(
            StoreError(
                f"The SFTP server {server} refuses the user {shown_name(settings.user)}: {reason}.",
                code="AuthenticationFailed",
                origin=Origin.CREDENTIALS,
                scope=Scope.DESTINATION,
                hint=f"Check the user name and {_credentials(settings)}.",
            )
        )
    if isinstance(error, (asyncssh.KeyImportError, asyncssh.KeyEncryptionError)):
        # One that was found there makes asyncssh try none of the others.
        return _unusable(
            "A private key in ~/.ssh", quoted(str(error)), "Name the right one in private_key_file, or remove that one."
        )
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return LoginRefused(
            StoreError(
                f"The SFTP server {server} and this program have no common method: {quoted(str(error.reason))}.",
                code="NoCommonAlgorithm",
                origin=Origin.SERVER,
                scope=Scope.DESTINATION,
                hint="The server is very old, or only a host key of another type is known here.",
            )
        )
    return None


def unanswered_login(lost: Lost, settings: Settings, client: Client) -> Lost:
    """The meaning of a login without an answer: an agent that hangs must not be taken for a server that does."""
    if client.has_host_key and looks_around(settings) and os.environ.get("SSH_AUTH_SOCK"):
        return Lost(f"{lost.reason}, of the server or of the agent at SSH_AUTH_SOCK")
    return lost


def _credentials(settings: Settings) -> str:
    if settings.private_key_file is not None:
        return f"whether the server has the public key of {shown_name(settings.private_key_file)}"
    return "the password" if settings.password else "the keys: there is no password, and no private_key_file"


def reason_of(error: BaseException) -> str:
    """Why a connection failed, as the end of a sentence."""
    if isinstance(error, (asyncio.IncompleteReadError, asyncssh.ConnectionLost)):
        return "the server closed it"
    if isinstance(error, asyncssh.DisconnectError):
        return str(error.reason) or "the server closed it"
    if isinstance(error, OSError):
        return _os_reason(error)
    return str(error) or type(error).__name__


def _lost(error: OSError) -> Lost:
    return Lost(_os_reason(error), lacks_descriptors=lacks_descriptors(error))


def _os_reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or str(error)).lower()
