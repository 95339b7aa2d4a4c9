"""What each error code of S3 means, by Amazon's reference and by what other servers say for the same thing."""

from __future__ import annotations

import msgspec

from s3_uploader.core.errors import Scope
from s3_uploader.core.origins import Origin


class Meaning(msgspec.Struct, frozen=True):
    """What one error code means."""

    retryable: bool = False
    scope: Scope = Scope.FILE
    hint: str = ""
    corrupted: bool = False
    origin: Origin = Origin.FILE


def _all(origin: Origin, hint: str) -> Meaning:
    """What every file would meet."""
    return Meaning(scope=Scope.DESTINATION, origin=origin, hint=hint)


SLOW = Meaning(retryable=True, hint="The server asks for a slower pace; lower max_concurrency if this goes on.")
PASSING = Meaning(retryable=True)
_DAMAGED = Meaning(
    retryable=True,
    corrupted=True,
    hint="The bytes were damaged on their way; if this goes on, look at the network, the memory and any proxy.",
)
_KEYS_HINT = "Look at the access key, the secret key and the session token that are in use."
_TOKEN = _all(
    Origin.CREDENTIALS,
    "Get new temporary credentials (log in again, or look at what renews them).",
)

MEANINGS: dict[str, Meaning] = {
    # Amazon's error reference, and what Ceph, MinIO, Swift and others say for the same thing.
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
        Origin.CREDENTIALS,
        "Look at AWS_ACCESS_KEY_ID, the profile or the role whose credentials are in use.",
    ),
    "SignatureDoesNotMatch": _all(
        Origin.CREDENTIALS,
        "Look at the secret key: it is not that of this access key, or has a blank or a line break at its end; a "
        "proxy that changes requests has the same effect.",
    ),
    "InvalidSecurity": _all(Origin.CREDENTIALS, _KEYS_HINT),
    "NotSignedUp": _all(Origin.CREDENTIALS, "Look at the account that the credentials belong to."),
    "AccountProblem": _all(Origin.CREDENTIALS, "Look at the account that the credentials belong to."),
    "AllAccessDisabled": _all(Origin.CREDENTIALS, "Look at the account and the name of the bucket."),
    "ExpiredToken": _TOKEN,
    "ExpiredTokenException": _TOKEN,
    "InvalidToken": _TOKEN,
    "TokenRefreshRequired": _TOKEN,
    "NoSuchBucket": _all(
        Origin.BUCKET,
        "Look at the bucket's name and at the endpoint; the program creates no buckets.",
    ),
    "InvalidBucketName": _all(Origin.BUCKET, "Look at the bucket's name."),
    "InvalidBucketState": _all(Origin.BUCKET, "Look at the state of the bucket."),
    "PermanentRedirect": _all(Origin.BUCKET, "Set region to the region of the bucket."),
    "AuthorizationHeaderMalformed": _all(Origin.BUCKET, "Set region to the region of the bucket."),
    "Redirect": _all(Origin.BUCKET, "Set region to the region of the bucket."),
    "TemporaryRedirect": _all(Origin.BUCKET, "Set region to the region of the bucket."),
    "InvalidStorageClass": _all(Origin.SETTING, "Look at storage_class."),
    "InvalidTag": _all(Origin.SETTING, "Look at tags."),
    "AccessControlListNotSupported": _all(
        Origin.SETTING,
        "The bucket has ACLs disabled: leave acl out, or enable them in the bucket.",
    ),
    "QuotaExceeded": _all(Origin.FULL, "Make room at the destination or raise its quota."),
    "XMinioStorageFull": _all(Origin.FULL, "Make room at the destination."),
    "MissingContentLength": _all(Origin.SERVER, "Something between here and the server drops headers."),
    "KMS.DisabledException": _all(Origin.CREDENTIALS, "Look at sse_kms_key_id and the state of that key."),
    "KMS.NotFoundException": _all(Origin.CREDENTIALS, "Look at sse_kms_key_id."),
    "KMS.InvalidStateException": _all(Origin.CREDENTIALS, "Look at sse_kms_key_id and the state of that key."),
    "EntityTooLarge": Meaning(hint="The destination does not take objects of this size."),
    "KeyTooLongError": Meaning(hint="Shorten the file's path or key_prefix."),
    "NotImplemented": Meaning(hint="The server does not know a feature that the configuration asks for."),
}
