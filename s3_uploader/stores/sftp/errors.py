"""What goes wrong with an SFTP server, in the words of the program: which error, how far it reaches, what to do."""

from __future__ import annotations

from s3_uploader.core.errors import KeyRefused, Scope, StoreError
from s3_uploader.core.meanings import of_one_file
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import quoted
from s3_uploader.stores.file_servers import base
from s3_uploader.stores.file_servers.base import Lost

NO_SUCH_FILE = 2
PERMISSION_DENIED = 3
FAILURE = 4
BAD_MESSAGE = 5
UNSUPPORTED = 8
_NO_SUCH_PATH = 10
_EXISTS = 11
_WRITE_PROTECTED = 12
NO_SPACE = 14
_QUOTA = 15
_INVALID_NAME = 20

# The status codes of draft-ietf-secsh-filexfer-13, 9.1. A server of version 3 has the first eight; some send the rest.
_NAMES = {
    NO_SUCH_FILE: "NoSuchFile",
    PERMISSION_DENIED: "PermissionDenied",
    FAILURE: "Failure",
    BAD_MESSAGE: "BadMessage",
    UNSUPPORTED: "OperationUnsupported",
    _NO_SUCH_PATH: "NoSuchPath",
    _EXISTS: "FileAlreadyExists",
    _WRITE_PROTECTED: "WriteProtected",
    NO_SPACE: "DiskFull",
    _QUOTA: "QuotaExceeded",
    _INVALID_NAME: "InvalidFilename",
}
_ORIGINS = {
    **dict.fromkeys((NO_SUCH_FILE, PERMISSION_DENIED, _NO_SUCH_PATH, _WRITE_PROTECTED), Origin.DIRECTORY),
    **dict.fromkeys((NO_SPACE, _QUOTA), Origin.FULL),
    **dict.fromkeys((FAILURE, BAD_MESSAGE, UNSUPPORTED), Origin.SERVER),
}
_OF_THE_DESTINATION = (_WRITE_PROTECTED, NO_SPACE, _QUOTA)


class Refused(base.Refused):
    """The server answered a request with a status other than OK.

    :ivar code: the status code.
    :ivar request: what it was asked: ``open``, ``write``, ``rename`` and so on.
    """

    def __init__(self, code: int, reason: str, request: str) -> None:
        self.code = code
        self.request = request
        self.reason = quoted(reason.strip()) or f"status {code}"
        super().__init__(f"{request}: {self.reason}")

    @property
    def is_absence(self) -> bool:
        """Whether it says that there is nothing of that name."""
        return self.code in (NO_SUCH_FILE, _NO_SUCH_PATH)

    @property
    def may_be_the_name(self) -> bool:
        """Whether opening failed, for whatever reason: version 3 has one code for most of them."""
        return self.request == "open" and self.code not in (NO_SPACE, _QUOTA, _WRITE_PROTECTED)

    @property
    def lists_nothing(self) -> bool:
        """Whether the server has no listings."""
        return self.request == "opendir" and self.code == UNSUPPORTED

    @property
    def error_code(self) -> str:
        """The name of the status."""
        return _NAMES.get(self.code, f"Status{self.code}")

    @property
    def origin(self) -> Origin:
        """By the status."""
        return _ORIGINS.get(self.code, Origin.UNREACHABLE)


class LoginRefused(base.Refused):
    """There is no session, and why; ``problem`` is the whole of it."""

    def __init__(self, problem: StoreError) -> None:
        self.problem = problem
        super().__init__(problem.message)


def login_error(error: base.Refused | Lost, *, server: str, user: str, path: str) -> StoreError:
    """The error of a session that did not come up; ``server`` is ``host:port``."""
    if isinstance(error, LoginRefused):
        return error.problem
    if isinstance(error, Refused):
        return StoreError(
            f"The directory {path or '.'} on the SFTP server {server} cannot be entered: {error.text}.",
            code="NoSuchDirectory" if error.is_absence else error.error_code,
            scope=Scope.DESTINATION,
            origin=error.origin,
            hint=f"Look at the path, which must be a directory, and at the rights of the user {user}.",
        )
    assert isinstance(error, Lost)
    if error.step == "sftp":
        return StoreError(
            f"The SSH server {server} lets {user} in, but speaks no SFTP: {error.reason}.",
            code="NotSftp",
            origin=Origin.SERVER,
            scope=Scope.DESTINATION,
            hint="Look at its Subsystem line and at forced commands; a shell that prints something at a login is in "
            "the way too.",
        )
    return StoreError(
        f"Cannot connect to the SFTP server {server}: {error.reason}.",
        code="ConnectionFailed",
        retryable=True,
        scope=Scope.DESTINATION,
        hint="Look at the host and the port, and whether the server runs.",
    )


def transfer_error(error: base.Refused | Lost, *, address: str) -> StoreError:
    """The error of an upload to ``address`` on a connection that had come up."""
    if isinstance(error, Lost):
        return StoreError(
            f"The SFTP connection was lost during the upload to {address}: {error.reason}.",
            code="ConnectionLost",
            retryable=True,
        )
    assert isinstance(error, Refused)
    message = f"The SFTP server refuses the upload to {address}: {error.text}."
    if error.code == _INVALID_NAME or (error.code == BAD_MESSAGE and error.request in ("open", "mkdir")):
        # OpenSSH says "bad message" to EINVAL and ENAMETOOLONG.
        return KeyRefused(message)
    scope = Scope.DESTINATION if error.code in _OF_THE_DESTINATION else Scope.FILE
    hint = ""
    if error.code in (NO_SPACE, _QUOTA):
        hint = "Make room there."
    elif error.code in (PERMISSION_DENIED, _WRITE_PROTECTED):
        hint = "Look at the rights of the SFTP user there, and whether the server is read-only."
    elif error.code == UNSUPPORTED:
        hint = "The server lacks what is needed."
    origin = error.origin if scope is Scope.DESTINATION else of_one_file(error.origin)
    if error.is_absence and scope is Scope.FILE:
        origin = Origin.FILE
    return StoreError(message, code=error.error_code, scope=scope, hint=hint, origin=origin)


def may_be_full(refused: base.Refused) -> bool:
    """Whether a refusal may mean that there is no room: OpenSSH has "failure" for it, and for much else."""
    if not isinstance(refused, Refused):
        return False
    if refused.code in (NO_SPACE, _QUOTA):
        return True
    return refused.code == FAILURE and refused.request in ("write", "fsync", "close")


def without_room(error: StoreError) -> StoreError:
    """The error of such a refusal where not even a byte finds room."""
    code = error.code if error.code in ("DiskFull", "QuotaExceeded") else "DiskFull"
    return StoreError(
        error.message,
        code=code,
        scope=Scope.DESTINATION,
        hint="Not even one byte can be written: make room there.",
        origin=Origin.FULL,
    )
