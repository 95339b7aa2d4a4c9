"""The program's errors for the failures of an SFTP server: cause, scope and advice."""

from __future__ import annotations

from s3_uploader.core.errors import KeyRefused, Scope, StoreError
from s3_uploader.core.meanings import of_one_file
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import quoted
from s3_uploader.stores.file_servers import base
from s3_uploader.stores.file_servers.base import Lost, without_descriptors

NO_SUCH_FILE = 2
PERMISSION_DENIED = 3
FAILURE = 4
BAD_MESSAGE = 5
_NO_CONNECTION = 6
_CONNECTION_LOST = 7
UNSUPPORTED = 8
_NO_SUCH_PATH = 10
EXISTS = 11
_WRITE_PROTECTED = 12
NO_SPACE = 14
_QUOTA = 15
_NO_DIRECTORY = 19
_INVALID_NAME = 20
_LINK_LOOP = 21

# The status codes of draft-ietf-secsh-filexfer-13, 9.1. A version 3 server has the first eight; some send the others.
_NAMES = {
    NO_SUCH_FILE: "NoSuchFile",
    PERMISSION_DENIED: "PermissionDenied",
    FAILURE: "Failure",
    BAD_MESSAGE: "BadMessage",
    UNSUPPORTED: "OperationUnsupported",
    _NO_SUCH_PATH: "NoSuchPath",
    EXISTS: "FileAlreadyExists",
    _WRITE_PROTECTED: "WriteProtected",
    NO_SPACE: "DiskFull",
    _QUOTA: "QuotaExceeded",
    _INVALID_NAME: "InvalidFilename",
}
_ORIGINS = {
    **dict.fromkeys((NO_SUCH_FILE, PERMISSION_DENIED, _NO_SUCH_PATH, _WRITE_PROTECTED), Origin.DIRECTORY),
    **dict.fromkeys((_INVALID_NAME, _NO_DIRECTORY, _LINK_LOOP), Origin.DIRECTORY),
    EXISTS: Origin.CONFLICT,
    **dict.fromkeys((NO_SPACE, _QUOTA), Origin.FULL),
    **dict.fromkeys((_NO_CONNECTION, _CONNECTION_LOST), Origin.UNREACHABLE),
}
_OF_THE_DESTINATION = (_WRITE_PROTECTED, NO_SPACE, _QUOTA)


class Refused(base.Refused):
    """The server answered a request with a status other than OK.

    :ivar code: the status code.
    :ivar request: the refused request: ``open``, ``write``, ``rename`` and so on.
    """

    def __init__(self, code: int, reason: str, request: str) -> None:
        self.code = code
        self.request = request
        self.reason = quoted(reason.strip()) or f"status {code}"
        super().__init__(f"{request}: {self.reason}")

    @property
    def is_absence(self) -> bool:
        """Whether the status says that the file does not exist."""
        return self.code in (NO_SUCH_FILE, _NO_SUCH_PATH)

    @property
    def may_be_the_name(self) -> bool:
        """Whether opening failed, for any reason: version 3 has one code for most of them."""
        return self.request == "open" and self.code not in (NO_SPACE, _QUOTA, _WRITE_PROTECTED)

    @property
    def may_be_of_all(self) -> bool:
        """A permission is missing, or the server has no more specific status."""
        is_look = self.request == "stat" and self.code == PERMISSION_DENIED
        return is_look or (self.code in (PERMISSION_DENIED, FAILURE) and self.request in ("open", "mkdir"))

    @property
    def is_of_a_directory(self) -> bool:
        """Whether a directory could not be made."""
        return self.request == "mkdir"

    @property
    def lists_nothing(self) -> bool:
        """Whether the server cannot list directories at all."""
        return self.request == "opendir" and self.code == UNSUPPORTED

    @property
    def error_code(self) -> str:
        """The name of the status."""
        return _NAMES.get(self.code, f"Status{self.code}")

    @property
    def origin(self) -> Origin:
        """The origin by the status."""
        return _ORIGINS.get(self.code, Origin.SERVER)


class LoginRefused(base.Refused):
    """No session is possible; ``problem`` says why."""

    def __init__(self, problem: StoreError) -> None:
        self.problem = problem
        super().__init__(problem.message)


def login_error(error: base.Refused | Lost, *, server: str, user: str, path: str) -> StoreError:
    """The error for a failed login; ``server`` is ``host:port``."""
    if isinstance(error, LoginRefused):
        return error.problem
    if isinstance(error, Refused):
        return StoreError(
            f"The directory {path or '.'} on the SFTP server {server} cannot be entered: {error.text}.",
            code="NoSuchDirectory" if error.is_absence else error.error_code,
            scope=Scope.DESTINATION,
            origin=error.origin,
            hint=f"Check the path, which must be a directory, and the permissions of the user {user}.",
        )
    assert isinstance(error, Lost)
    if error.lacks_descriptors:
        return without_descriptors(server)
    if error.step == "sftp":
        return StoreError(
            f"The SSH server {server} accepts the user {user}, but does not offer SFTP: {error.reason}.",
            code="NotSftp",
            origin=Origin.SERVER,
            scope=Scope.DESTINATION,
            hint="Check its Subsystem line and forced commands. A shell that prints something at login also prevents "
            "SFTP.",
        )
    return StoreError(
        f"Cannot connect to the SFTP server {server}: {error.reason}.",
        code="ConnectionFailed",
        retryable=True,
        scope=Scope.DESTINATION,
        hint="Check the host and the port, and whether the server runs.",
        never_connected=True,
    )


def transfer_error(error: base.Refused | Lost, *, address: str) -> StoreError:
    """The error of an upload to ``address`` that failed after the connection was established."""
    if isinstance(error, Lost):
        return StoreError(
            f"The SFTP connection was lost during the upload to {address}: {error.reason}.",
            code="ConnectionLost",
            retryable=True,
        )
    assert isinstance(error, Refused)
    message = f"The SFTP server refuses the upload to {address}: {error.text}."
    if error.code == _INVALID_NAME or (error.code == BAD_MESSAGE and error.request in ("open", "mkdir")):
        # OpenSSH answers "bad message" for EINVAL and ENAMETOOLONG.
        return KeyRefused(message)
    scope = Scope.DESTINATION if error.code in _OF_THE_DESTINATION else Scope.FILE
    hint = ""
    if error.code in (NO_SPACE, _QUOTA):
        hint = "Make room there."
    elif error.code in (PERMISSION_DENIED, _WRITE_PROTECTED):
        hint = "Check the permissions of the SFTP user there, and whether the server is read-only."
    elif error.code == UNSUPPORTED:
        hint = "The server lacks a needed operation."
    origin = error.origin if scope is Scope.DESTINATION else of_one_file(error.origin)
    if error.is_absence and scope is Scope.FILE:
        origin = Origin.FILE
    return StoreError(message, code=error.error_code, scope=scope, hint=hint, origin=origin)


def may_be_full(refused: base.Refused) -> bool:
    """Whether a refusal may mean that the disk is full: OpenSSH answers "failure" for that and for other causes."""
    if not isinstance(refused, Refused):
        return False
    if refused.code in (NO_SPACE, _QUOTA):
        return True
    return refused.code == FAILURE and refused.request in ("write", "fsync", "close")


def without_room(error: StoreError) -> StoreError:
    """The error of such a refusal if there is no room for even one byte."""
    code = error.code if error.code in ("DiskFull", "QuotaExceeded") else "DiskFull"
    return StoreError(
        error.message,
        code=code,
        scope=Scope.DESTINATION,
        hint="Not even one byte can be written: make room there.",
        origin=Origin.FULL,
    )
