"""The error documents of S3: which status belongs to which code, and how they look."""

from __future__ import annotations

from xml.sax.saxutils import escape

from tests.servers.fault_wire import Answer

ERRORS: dict[str, tuple[int, str]] = {
    "AccessDenied": (403, "Access Denied"),
    "AccountProblem": (403, "There is a problem with your AWS account that prevents the operation."),
    "AllAccessDisabled": (403, "All access to this Amazon S3 resource has been disabled."),
    "AuthorizationHeaderMalformed": (
        400,
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'",
    ),
    "BadDigest": (400, "The Content-MD5 or checksum value that you specified did not match what we received."),
    "ConditionalRequestConflict": (409, "The conditional request cannot succeed due to a conflicting operation."),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
    "ExpiredToken": (400, "The provided token has expired."),
    "IncompleteBody": (400, "You did not provide the number of bytes specified by the Content-Length HTTP header"),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id you provided does not exist in our records."),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidBucketState": (409, "The request is not valid with the current state of the bucket."),
    "InvalidDigest": (400, "The Content-MD5 you specified was invalid."),
    "InvalidObjectState": (403, "The operation is not valid for the object's storage class"),
    "InvalidPart": (400, "One or more of the specified parts could not be found."),
    "InvalidPartOrder": (400, "The list of parts was not in ascending order."),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "InvalidRequest": (400, "Invalid Request"),
    "InvalidSecurity": (403, "The provided security credentials are not valid."),
    "InvalidStorageClass": (400, "The storage class you specified is not valid"),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "InvalidURI": (400, "Couldn't parse the specified URI."),
    "KeyTooLongError": (400, "Your key is too long"),
    "KMS.DisabledException": (400, "The KMS key is disabled."),
    "MalformedXML": (400, "The XML you provided was not well-formed or did not validate against our schema"),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (404, "The specified upload does not exist."),
    "NotImplemented": (501, "A header you provided implies functionality that is not implemented"),
    "NotSignedUp": (403, "Your account is not signed up for the Amazon S3 service."),
    "OperationAborted": (409, "A conflicting conditional operation is currently in progress against this resource."),
    "PermanentRedirect": (
        301,
        "The bucket you are attempting to access must be addressed using the specified endpoint.",
    ),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "QuotaExceeded": (403, "The quota of the bucket or of the user is exceeded."),
    "Redirect": (307, "Temporary redirect"),
    "RequestTimeout": (400, "Your socket connection to the server was not read from or written to within the timeout."),
    "RequestTimeTooSkewed": (403, "The difference between the request time and the current time is too large."),
    "ServiceUnavailable": (503, "Service is unable to handle request."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided.",
    ),
    "SlowDown": (503, "Please reduce your request rate."),
    "TokenRefreshRequired": (400, "The provided token must be refreshed."),
    "TooManyParts": (400, "The upload has too many parts"),
    "XAmzContentSHA256Mismatch": (400, "The provided 'x-amz-content-sha256' header does not match what was computed."),
}
"""Status and message by code, as Amazon's error reference lists them."""

_REGION = "eu-central-1"


def error_document(code: str, *, message: str | None = None, fields: dict[str, str] | None = None) -> bytes:
    """Return the XML of an error."""
    text = ERRORS[code][1] if message is None else message
    inner = {"Code": code, "Message": text, **(fields or {}), "RequestId": "4442587FB7D0A2F9", "HostId": "fault-server"}
    elements = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in inner.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{elements}</Error>'.encode()


def error_answer(
    code: str,
    *,
    status: int | None = None,
    message: str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Return the answer for a code of `ERRORS`, with the region where S3 names one."""
    extra: dict[str, str] = {"Content-Type": "application/xml"}
    fields: dict[str, str] = {}
    if code in ("PermanentRedirect", "Redirect"):
        extra["x-amz-bucket-region"] = _REGION
        fields["Endpoint"] = f"s3.{_REGION}.amazonaws.com"
    if code == "AuthorizationHeaderMalformed":
        extra["x-amz-bucket-region"] = _REGION
        fields["Region"] = _REGION
    return Answer(
        status=ERRORS[code][0] if status is None else status,
        headers={**extra, **(headers or {})},
        body=error_document(code, message=message, fields=fields),
    )
