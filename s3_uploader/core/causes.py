"""What the code of an error means for a spool: why it is not emptied, whether that passes by itself, and what to do.

The one table for all stores. An error is stored, in the ledger and in reports, by its code, so whoever asks later asks
here; a test walks through the codes of every store and sees that each one that can end a run is known.
"""

from __future__ import annotations

import msgspec

from s3_uploader.core.model import Cause


class Meaning(msgspec.Struct, frozen=True):
    """What an error that every file would meet comes from.

    :param passes: it may be over in a moment without anybody's doing, like a router that restarts.
    :param remedy: what a person can do; empty for that of the cause in general.
    """

    cause: Cause
    passes: bool = False
    remedy: str = ""


_CHECK = "`check` tries each step."
_RENEW = Meaning(Cause.CREDENTIALS)
_SOURCE = Meaning(
    Cause.CREDENTIALS, remedy=f"Look at what gives this machine its credentials, as the message says; {_CHECK}"
)
_CLOCK = Meaning(Cause.CLOCK)
_FULL = Meaning(Cause.DISK_FULL)
_PASSING = Meaning(Cause.DESTINATION, passes=True)
_BUCKET = Meaning(
    Cause.DESTINATION, remedy=f"Look at bucket, region and endpoint_url: they do not fit together. {_CHECK}"
)
_SETTING = Meaning(Cause.DESTINATION, remedy=f"Correct the setting that the message names; {_CHECK}")
_CERTIFICATE = Meaning(
    Cause.DESTINATION,
    remedy="Look at the server's certificate, at the authorities to trust (AWS_CA_BUNDLE, ca_file), at the scheme of "
    "the URL and at this machine's clock.",
)
_HOST_KEY = Meaning(
    Cause.DESTINATION,
    remedy="Ask who runs the server for the fingerprint of its host key; see known_hosts_file and "
    f"host_key_fingerprints. {_CHECK}",
)
_PRIVATE_KEY = Meaning(
    Cause.CREDENTIALS, remedy=f"Look at private_key_file, and at the passphrase in the environment; {_CHECK}"
)
_SERVER = Meaning(
    Cause.DESTINATION, remedy=f"Look at the server that is named, and whether it is the right one; {_CHECK}"
)
_PROXY = Meaning(Cause.DESTINATION, passes=True, remedy="Look at HTTP_PROXY, HTTPS_PROXY and NO_PROXY.")
_DIRECTORY = Meaning(
    Cause.DESTINATION, remedy=f"Look at path, at the directory it names and at the user's rights there; {_CHECK}"
)

_MEANINGS: dict[str, Meaning] = {
    **dict.fromkeys(
        (
            *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "NotSignedUp", "AccountProblem"),
            *("AllAccessDisabled", "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"),
            *("AccessDenied", "401", "403", "Forbidden", "Unauthorized", "InvalidCredentials"),
            *("NoPassword", "530", "532", "EACCES", "EPERM"),
            "AuthenticationFailed",
            *("KMS.DisabledException", "KMS.NotFoundException", "KMS.InvalidStateException"),
        ),
        _RENEW,
    ),
    **dict.fromkeys(
        ("NoCredentials", "CredentialsUnavailable", "CredentialsTimeout", "CredentialsExpired"),
        _SOURCE,
    ),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"), _CLOCK),
    **dict.fromkeys(
        (
            *("DiskFull", "CannotMove", "ENOSPC", "EDQUOT", "QuotaExceeded", "XMinioStorageFull", "452", "552"),
            "NoRoomToCompress",
        ),
        _FULL,
    ),
    **dict.fromkeys(
        (
            *("NoSuchBucket", "InvalidBucketName", "InvalidBucketState", "PermanentRedirect", "Redirect"),
            *("TemporaryRedirect", "AuthorizationHeaderMalformed", "InvalidRegion", "InvalidEndpoint"),
            *("301", "302", "303", "307", "308", "400", "404"),
        ),
        _BUCKET,
    ),
    **dict.fromkeys(
        (
            *("InvalidStorageClass", "InvalidTag", "AccessControlListNotSupported", "InvalidHeader"),
            *("AwsConfiguration", "SameAsSpool", "533", "534", "535", "536"),
        ),
        _SETTING,
    ),
    **dict.fromkeys(("HostKeyUnknown", "HostKeyChanged", "HostKeyRefused"), _HOST_KEY),
    "PrivateKeyUnusable": _PRIVATE_KEY,
    **dict.fromkeys(("TlsFailed", "InvalidCaBundle", "522"), _CERTIFICATE),
    **dict.fromkeys(("NotS3", "405", "501", "502", "504", "MissingContentLength", "EngineFailed"), _SERVER),
    **dict.fromkeys(("NotSftp", "NoCommonAlgorithm", "OperationUnsupported", "Failure", "BadMessage"), _SERVER),
    **dict.fromkeys(("ProxyFailed", "407"), _PROXY),
    **dict.fromkeys(
        (
            *("NameResolutionFailed", "ConnectionFailed", "ConnectTimeout", "ConnectionLost", "ReadTimeout"),
            *("InvalidAnswer", "Timeout", "DataConnectionFailed", "OutOfResources", "OutOfThreads", "421", "425"),
            *("Endless", "Closed", "ConnectionClosed"),
        ),
        _PASSING,
    ),
    **dict.fromkeys(("550", "553", "ENOENT", "ENOTDIR", "NotMounted", "EROFS"), _DIRECTORY),
    **dict.fromkeys(("PermissionDenied", "NoSuchDirectory", "NoSuchFile", "NoSuchPath", "WriteProtected"), _DIRECTORY),
}
_RIGHTS = {"AccessDenied", "401", "403", "550", "553", "EACCES", "EPERM", "PermissionDenied", "WriteProtected"}
"""What says of one file, while others go, that a right is missing: it may be for a part of the destination only."""
_OF_THE_MACHINE = {"CannotRemove"}


def meaning_of(code: str) -> Meaning:
    """The meaning of an error that every file would meet; one that nobody has heard of may pass."""
    return _MEANINGS.get(code, _PASSING)


def is_known(code: str) -> bool:
    """Whether the table has the code."""
    return code in _MEANINGS


def cause_of_failing(code: str) -> Cause:
    """The cause behind an error of one file: what is wrong with it while others go."""
    if code == "Conflict":
        return Cause.CONFLICT
    if code in _OF_THE_MACHINE:
        return Cause.UNREADABLE
    if code in _RIGHTS:
        return Cause.CREDENTIALS
    return Cause.DISK_FULL if meaning_of(code).cause is Cause.DISK_FULL else Cause.FAILING_FILE
