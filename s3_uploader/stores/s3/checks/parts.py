"""Whether a bucket accepts uploads in parts, with which checksums, and whether they can be aborted."""

from __future__ import annotations

from collections.abc import Callable

from s3_uploader.core.errors import StoreError
from s3_uploader.core.files import unnamed_file
from s3_uploader.stores.base import PendingReceipt, Source
from s3_uploader.stores.s3 import multipart_requests, requests
from s3_uploader.stores.s3.capabilities import PartChecksums, fewer_part_checksums
from s3_uploader.stores.s3.checks.trial import ERROR, OK, USUAL, WARNING, Trial
from s3_uploader.stores.s3.meanings import DENIALS, kind_of
from s3_uploader.stores.s3.refusals import NO_PARTS_HINT, Blame, blame, knows_no_parts, said

PutInParts = Callable[[str, Source, float], "PendingReceipt"]

_SMALL = b"s3_uploader was here to see whether parts can be joined.\n"
_WORDS: dict[PartChecksums, str] = {
    "full": "",
    "composite": ", with a checksum of the parts",
    "none": ", without a checksum of the whole",
}


def check_parts(trial: Trial, put_in_parts: PutInParts) -> None:
    """Whether an upload in parts can be created, aborted and completed.

    :param put_in_parts: stores a small object under a key as large ones are stored, within that many seconds.
    """
    key = f"{trial.key}-parts"
    path = requests.encode_key(key)
    begun = _begin(trial, key, path)
    if begun is None:
        return
    upload_id, checksums = begun
    call = trial.wait(multipart_requests.abort_multipart_upload(key, path, upload_id=upload_id))
    if call.error is not None:
        is_denial = kind_of(call.error) in DENIALS
        trial.tell(
            WARNING,
            "parts of failed uploads",
            call.error.message,
            "They would stay and cost money: "
            + ("grant s3:AbortMultipartUpload, and " if is_denial else "")
            + "have a lifecycle rule remove incomplete uploads.",
        )
    try:
        with unnamed_file(_SMALL) as file:
            put_in_parts(key, Source(file.fileno(), len(_SMALL)), trial.time_left()).result()
    except StoreError as error:
        trial.tell(
            ERROR,
            "large files",
            error.message,
            error.hint or "Files above multipart_threshold would stay in the spool.",
        )
    else:
        trial.left_behind.append(key)
        trial.tell(OK, "large files", f"an upload in parts can be begun, aborted and completed{_WORDS[checksums]}")


def _begin(trial: Trial, key: str, path: str) -> tuple[str, PartChecksums] | None:
    """Create an upload with the checksums that the server accepts. Returns its ID and these."""
    because, is_second = "", False
    checksums: PartChecksums = "none" if trial.form == "md5" else "full"
    while True:
        headers = trial.headers.of(key, USUAL)
        call = trial.wait(multipart_requests.create_multipart_upload(key, path, headers, checksums=checksums))
        if call.error is None:
            break
        reason = blame(call.refusal, call.request.headers)
        fewer = fewer_part_checksums(checksums)
        if fewer is None or call.refusal is None or reason not in (Blame.CHECKSUM, Blame.UNNAMED):
            no_parts = knows_no_parts(call.request, call.error)
            trial.tell(ERROR, "large files", call.error.message, NO_PARTS_HINT if no_parts else call.error.hint)
            return None
        if reason is Blame.UNNAMED and not is_second:
            is_second = True  # One such answer may have been about anything.
            continue
        because = said(call.refusal)
        checksums = fewer
    if trial.form != "md5":
        trial.capabilities.takes_part_checksums(checksums, because, named=True)
    return call.body.field("UploadId"), checksums
