"""The meaning of each S3 error code, from Amazon's reference and from the answers of other servers."""

from __future__ import annotations

import enum
import functools
from typing import Protocol

import msgspec

from s3_uploader.core.errors import Scope
from s3_uploader.core.origins import Origin


class Meaning(msgspec.Struct, frozen=True):
    """The meaning of one error code."""

    retryable: bool = False
    scope: Scope = Scope.FILE
    hint: str = ""
    corrupted: bool = False
    origin: Origin = Origin.FILE


_all = functools.partial(Meaning, scope=Scope.DESTINATION)
"""The meaning of an error that every file would meet."""

SLOW = Meaning(retryable=True, hint="The server asks to slow down. If this persists, lower max_concurrency.")
PASSING = Meaning(retryable=True)
FULL = _all(origin=Origin.FULL, hint="Make room at the destination or raise its quota.")
TOO_LARGE = Meaning(
    hint="The server, or a proxy before it, does not accept requests of this size. Raise its limit (nginx: "
    "client_max_body_size)."
)
_DAMAGED = Meaning(
    retryable=True,
    corrupted=True,
    hint="The bytes were damaged on the way. If this persists, check the network, the memory and any proxy.",
)
_KEYS_HINT = "Check the access key, the secret key and the session token in use."
_TOKEN = _all(
    origin=Origin.CREDENTIALS,
    hint="Get new temporary credentials: log in again, or check what renews them.",
)

MEANINGS: dict[str, Meaning] = {
    # Amazon's error codes, and those of Ceph, MinIO, Swift and others for the same errors.
    "SlowDown": SLOW,
    "SlowDownRead": SLOW,
    "SlowDownWrite": SLOW,
    "TooManyRequests": SLOW,
    "Throttling": SLOW,
    "ThrottlingException": SLOW,
    "RequestThrottled": SLOW,
    "RequestLimitExceeded": SLOW,
    "BandwidthLimitExceeded": SLOW,
    "KMS.ThrottlingException": SLOW,
    "InternalError": Meaning(retryable=True, origin=Origin.OURS),  # the server's own fault, not the file's
    "ServiceUnavailable": PASSING,
    "RequestTimeout": PASSING,
    "RequestTimeoutException": PASSING,
    "IncompleteBody": PASSING,
    "ConditionalRequestConflict": PASSING,
    "OperationAborted": PASSING,
    "BadDigest": _DAMAGED,
    "InvalidDigest": _DAMAGED,
    "XAmzContentSHA256Mismatch": _DAMAGED,
    "XAmzContentChecksumMismatch": _DAMAGED,
    "InvalidAccessKeyId": _all(
        origin=Origin.CREDENTIALS,
        hint="Check AWS_ACCESS_KEY_ID, the profile or the role in use.",
    ),
    "SignatureDoesNotMatch": _all(
        origin=Origin.CREDENTIALS,
        hint="Check the secret key. It may belong to another access key, or have a space or a line break at its end. A "
        "proxy that changes requests has the same effect.",
    ),
    "InvalidSecurity": _all(origin=Origin.CREDENTIALS, hint=_KEYS_HINT),
    "NotSignedUp": _all(origin=Origin.CREDENTIALS, hint="Check the account that the credentials belong to."),
    "AccountProblem": _all(origin=Origin.CREDENTIALS, hint="Check the account that the credentials belong to."),
    "UserSuspended": _all(origin=Origin.CREDENTIALS, hint="Check the account that the credentials belong to."),
    "AllAccessDisabled": _all(origin=Origin.CREDENTIALS, hint="Check the account and the name of the bucket."),
    "ExpiredToken": _TOKEN,
    "ExpiredTokenException": _TOKEN,
    "InvalidToken": _TOKEN,
    "TokenRefreshRequired": _TOKEN,
    "NoSuchBucket": _all(
        origin=Origin.BUCKET,
        hint="Check the bucket's name and the endpoint. The program creates no buckets.",
    ),
    "InvalidBucketName": _all(origin=Origin.BUCKET, hint="Check the bucket's name."),
    "InvalidBucketState": _all(origin=Origin.BUCKET, hint="Check the state of the bucket."),
    "PermanentRedirect": _all(origin=Origin.BUCKET, hint="Set region to the region of the bucket."),
    "AuthorizationHeaderMalformed": _all(
        origin=Origin.BUCKET,
        hint="Check AWS_ACCESS_KEY_ID, which may hold the secret key, and set region to the region of the bucket.",
    ),
    "Redirect": _all(origin=Origin.BUCKET, hint="Set region to the region of the bucket."),
    "TemporaryRedirect": _all(origin=Origin.BUCKET, hint="Set region to the region of the bucket."),
    "IncorrectEndpoint": _all(origin=Origin.BUCKET, hint="Set region to the region of the bucket."),
    "IllegalLocationConstraintException": _all(
        origin=Origin.BUCKET, hint="Set region to the region of the bucket, and check endpoint_url."
    ),
    "InvalidStorageClass": _all(origin=Origin.SETTING, hint="Check storage_class."),
    "InvalidTag": _all(origin=Origin.SETTING, hint="Check tags."),
    "AccessControlListNotSupported": _all(
        origin=Origin.SETTING,
        hint="The bucket has ACLs disabled. Remove acl, or enable ACLs in the bucket.",
    ),
    "QuotaExceeded": FULL,
    "XMinioAdminBucketQuotaExceeded": FULL,
    "InsufficientStorage": FULL,
    "XMinioStorageFull": _all(origin=Origin.FULL, hint="Make room at the destination."),
    "MissingContentLength": _all(
        origin=Origin.SERVER, hint="Something between this machine and the server drops headers."
    ),
    "KMS.DisabledException": _all(origin=Origin.CREDENTIALS, hint="Check sse_kms_key_id and the state of that key."),
    "KMS.NotFoundException": _all(origin=Origin.CREDENTIALS, hint="Check sse_kms_key_id."),
    "KMS.InvalidStateException": _all(
        origin=Origin.CREDENTIALS, hint="Check sse_kms_key_id and the state of that key."
    ),
    "EntityTooLarge": Meaning(hint="The destination does not accept objects of this size."),
    "EntityTooSmall": Meaning(hint="The server requires larger parts. Raise part_size."),
    "MetadataTooLarge": Meaning(hint="S3 takes 2 KB of metadata for an object, their names included. Shorten them."),
    "KeyTooLongError": Meaning(hint="Shorten the file's path or key_prefix."),
    "NotImplemented": Meaning(hint="The server does not support a feature that the configuration asks for."),
}


class Kind(enum.Enum):
    """What an error means for the requests that follow it, where these depend on it."""

    DENIED = "denied"
    FORBIDDEN = "denied without a document of S3"
    BAD_REQUEST = "refused without a document of S3"
    EXPIRED = "temporary credentials have expired"
    NO_CREDENTIALS = "this machine has no usable credentials"
    NOT_FOUND = "not found, without a document of S3"
    NO_OBJECT = "no such object or bucket"
    NO_UPLOAD = "no such upload in parts"
    BAD_PART = "a part is unknown"
    BAD_DIGEST = "the checksum does not match"
    UNSUPPORTED = "the operation is not supported"
    TAKEN = "the key is taken by another object"
    BUSY = "another operation on the same object is under way"
    HUNG_UP = "no valid answer"
    ENGINE_FAILED = "the engine no longer works"
    NOT_S3 = "the server is not S3"
    OTHER = "anything else"


DENIALS = frozenset((Kind.DENIED, Kind.FORBIDDEN))
UNEXPLAINED = frozenset((Kind.BAD_REQUEST, Kind.FORBIDDEN))
"""There is only a status, which may be due to the name, the credentials or a missing permission."""

_KINDS = {
    "AccessDenied": Kind.DENIED,
    **dict.fromkeys(("401", "403"), Kind.FORBIDDEN),
    "400": Kind.BAD_REQUEST,
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"), Kind.EXPIRED),
    **dict.fromkeys(
        ("NoCredentials", "CredentialsUnavailable", "CredentialsTimeout", "InvalidCredentials"), Kind.NO_CREDENTIALS
    ),
    "404": Kind.NOT_FOUND,
    **dict.fromkeys(("NoSuchKey", "NoSuchBucket"), Kind.NO_OBJECT),
    "NoSuchUpload": Kind.NO_UPLOAD,
    "InvalidPart": Kind.BAD_PART,
    "BadDigest": Kind.BAD_DIGEST,
    **dict.fromkeys(("405", "501", "MethodNotAllowed", "NotImplemented"), Kind.UNSUPPORTED),
    **dict.fromkeys(("ConnectionLost", "InvalidAnswer"), Kind.HUNG_UP),
    **dict.fromkeys(("PreconditionFailed", "Conflict"), Kind.TAKEN),
    **dict.fromkeys(("ConditionalRequestConflict", "OperationAborted"), Kind.BUSY),
    "EngineFailed": Kind.ENGINE_FAILED,
    "NotS3": Kind.NOT_S3,
}


class Coded(Protocol):
    """An error with a code of S3, or of this program."""

    code: str


def kind_of(error: Coded) -> Kind:
    """The kind of an error of an S3 store or of the object API. Other modules ask for it and compare no codes."""
    return _KINDS.get(error.code, Kind.OTHER)
