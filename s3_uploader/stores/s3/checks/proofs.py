"""What the answers of a bucket prove, and whether it refuses bytes that do not match their checksum."""

from __future__ import annotations

from s3_uploader.core.model import Proof
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checks.trial import ERROR, NOTE, OK, USUAL, WARNING, Trial
from s3_uploader.stores.s3.checksums import Evidence, crc32_text, digest_of, evidence
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.requests import UNCONDITIONAL


def check_proof(trial: Trial, call: PendingRequest, body: bytes) -> None:
    """What the answer to an upload proves, and whether bytes that were damaged on the way are refused.

    :param call: the upload of ``body``.
    """
    verified = _is_refused(trial, checksum=True)
    md5_verified = _is_refused(trial, checksum=False)
    found = evidence(call.body.headers, digest_of(body))
    if found.contradiction:
        trial.tell(
            ERROR, "proof", found.contradiction, "The answers of this server cannot be trusted: nothing is deleted."
        )
        return
    if found.md5_matched:
        trial.capabilities.saw_md5_etag()
    _tell_of_verification(trial, verified=verified, md5_verified=md5_verified)
    _tell_of_proof(trial, found, body, verified=verified, md5_verified=md5_verified)


def _tell_of_verification(trial: Trial, *, verified: bool, md5_verified: bool) -> None:
    if verified:
        trial.tell(OK, "checksums", "a wrong checksum is refused", "Bytes damaged in transit are not stored.")
    elif md5_verified:
        trial.tell(
            NOTE,
            "checksums",
            "checksums in headers are ignored, a wrong Content-MD5 is refused",
            "An old dialect: damage is detected afterwards, by the MD5 in the answer.",
        )
    else:
        trial.tell(
            WARNING,
            "checksums",
            "wrong checksums and a wrong Content-MD5 are both accepted",
            "A weak dialect: the server stores whatever arrives; damage is detected only by the MD5 in its answer"
            + (", and by https." if trial.endpoint.tls else "; use https."),
        )


def _tell_of_proof(trial: Trial, found: Evidence, body: bytes, *, verified: bool, md5_verified: bool) -> None:
    if found.proof is Proof.CHECKSUM:
        meaning = "Every upload is proven by a checksum that the server computed itself."
        if not verified:
            meaning = "But since wrong ones are accepted, it may only repeat what it was told."
        trial.tell(OK if verified else WARNING, "proof", "the answer carries the checksum of what was stored", meaning)
    elif found.md5_matched:
        trial.tell(
            OK if verified or md5_verified else NOTE,
            "proof",
            "the answer carries no checksum, but the MD5 of what was stored",
            "Every upload is proven by that MD5 (proof md5)."
            + (" Checksums are verified, too: a new dialect that does not return them." if verified else ""),
        )
    elif _can_be_read_back(trial, body):
        trial.tell(
            OK,
            "proof",
            "the answer carries neither a checksum nor an MD5, and what was stored can be read",
            "Every upload is read back and compared: as good a proof as a checksum, at the cost of a download.",
        )
    else:
        trial.tell(
            ERROR,
            "proof",
            "the answer carries neither a checksum nor an MD5, and what was stored cannot be read back",
            "No upload can be proven, so nothing would be deleted. Grant s3:GetObject.",
        )


def _is_refused(trial: Trial, *, checksum: bool) -> bool:
    """Whether bytes that do not match their checksum are refused, as if they had been damaged on the way."""
    key = f"{trial.key}-damaged"
    body = b"these are not the bytes that were meant"
    headers = trial.headers.of(key, USUAL)
    path = requests.encode_key(key)
    payload_hash = requests.payload_hash(body, tls=trial.endpoint.payload_is_unsigned)
    request = requests.put_object(
        key,
        path,
        body,
        headers,
        crc32=crc32_text(0x01020304) if checksum else "",
        condition=UNCONDITIONAL,
        payload_hash=payload_hash,
    )
    if not checksum:
        request.headers["content-md5"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    call = trial.wait(request, client=trial.impatient)
    if call.error is None:
        trial.left_behind.append(key)
        return False
    return 400 <= call.status < 500


def _can_be_read_back(trial: Trial, body: bytes) -> bool:
    call = trial.wait(
        requests.get_object(
            trial.key, requests.encode_key(trial.key), first=0, last=len(body) - 1, etag="", size=len(body)
        )
    )
    return call.error is None and call.body.body == body
