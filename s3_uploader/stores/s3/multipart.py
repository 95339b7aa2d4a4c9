"""An upload in parts, from its creation to its cleanup. If it fails, nothing of it is left."""

from __future__ import annotations

import functools
from collections.abc import Callable

from s3_uploader.core.errors import StoreError, UploadCancelled
from s3_uploader.core.model import OnConflict, Receipt
from s3_uploader.stores.s3 import multipart_requests
from s3_uploader.stores.s3.client import NOTHING_EXPECTED, PendingRequest
from s3_uploader.stores.s3.completing import CompletingUpload
from s3_uploader.stores.s3.conflict import DENIED
from s3_uploader.stores.s3.errors import error_code
from s3_uploader.stores.s3.multipart_states import ABORTING, CREATING, NOTHING, SENDING, WAITING
from s3_uploader.stores.s3.proof import LOOKED
from s3_uploader.stores.s3.upload import Context, Put

_ABORT_SECONDS = 10.0
_LATE_ABORT_SECONDS = 1.5
"""The same for an upload that is late or whose run ends: the abort is sent, but not waited for long."""
_GRACE_SECONDS = 1.2
"""How long a cancelled upload waits for the upload ID that it has just requested."""
_MAXIMUM_STARTS = 3


class MultipartUpload(CompletingUpload):
    """CreateMultipartUpload, UploadPart for each part, CompleteMultipartUpload; AbortMultipartUpload if it fails.

    Its stages are defined in :mod:`s3_uploader.stores.s3.multipart_states`.
    """

    _starts = 0
    """How often it was created: the first time, and each time that the server lost it."""

    def __init__(self, context: Context, put: Put) -> None:
        super().__init__(context, put)
        self._after_abort: list[Callable[[], None]] = []

    def prepare(self) -> None:
        """Begin on a thread of the pool, because the digest of a large file may be needed before the first request."""
        self.on_crew(self.begin)

    def set_out(self) -> None:
        """Create the upload. Amazon supports a condition on completion; on other servers, look for the object first."""
        if self.over:
            return
        if self.context.capabilities.trusted or self.options.on_conflict is OnConflict.OVERWRITE:
            self.write()
        else:
            self.look_first()

    # Creating.

    def write(self) -> None:
        """Create an upload in parts."""
        if self.over:
            return
        if self._starts >= _MAXIMUM_STARTS:
            self.fail(
                StoreError(f"The server lost the upload of {self._address} again and again.", code="NoSuchUpload")
            )
            return
        try:
            headers = self.context.headers.of(self.key, self.options)
        except StoreError as error:
            self.fail(error)
            return
        if self._form_in_use != "md5" and self.context.capabilities.tries_part_checksums():
            self._checksums, self._named = "full", True
        with self._lock:
            if self.over:
                return
            self.enter(CREATING)
            self._starts += 1
            generation = self.plan()
        self.call(
            multipart_requests.create_multipart_upload(self.key, self.path, headers, checksums=self._checksums_in_use),
            lambda call: self._created(call, generation),
            NOTHING_EXPECTED,
            cancels=False,
        )
        if isinstance(self._error, UploadCancelled):
            # Cancelled while the request was sent.
            self._wait_for_id(self._error)

    def _wait_for_id(self, reason: UploadCancelled) -> None:
        """Wait for the upload ID after a cancellation, because without it the upload could not be aborted."""
        call = self._call
        if call is not None:
            cancel_call = functools.partial(call.cancel, reason)
            self.context.timer.call_at(self.context.clock() + _GRACE_SECONDS, cancel_call)

    def _created(self, call: PendingRequest, generation: int) -> None:
        upload_id = call.answer.field("UploadId") if call.answer is not None else ""
        with self._lock:
            # From here on the cleanup aborts it.
            self._upload_id = upload_id
            # It was cancelled meanwhile, and the cancellation waits for this answer.
            late = self._error is not None
            if not upload_id:
                self.enter(NOTHING)
            else:
                self.enter(ABORTING if late else SENDING)
        if late and upload_id:
            self._abort(upload_id)
        elif late:
            self._gone()
        elif call.error is not None:
            self._starts -= 1  # nothing was created
            if not self.ask_for_fewer_checksums(call):
                self.refuse(call, call.error)
        elif not upload_id:
            self.fail(StoreError("The server created an upload in parts but did not name it.", code="InvalidAnswer"))
        else:
            # Not every server repeats for each part that its ETags are not MD5s.
            self._encryption = {
                name: value
                for source in (call.request.headers, call.body.headers)
                for name, value in source.items()
                if name == "x-amz-server-side-encryption"
            }
            self.send_parts(generation)

    def abandon_parts(self) -> None:
        """Abort the upload and create another one. Answers about the old parts are ignored."""
        with self._lock:
            self._generation += 1
            self._starts -= 1
        self.clean_up(self.write)

    def start_again(self, generation: int) -> None:
        """Create another upload, because the server lost this one."""
        with self._lock:
            if self.over or generation != self._generation:
                return  # another part has noticed it already, or the upload is over
            self._generation += 1
            self.enter(NOTHING)
            calls = list(self._calls)
        for call in calls:
            call.cancel(UploadCancelled("The upload is started again."))
        self.write()

    # Cleanup.

    def conclude(self, receipt: Receipt) -> None:
        """Remove parts that were sent in vain, and succeed: the object is stored."""
        self.clean_up(lambda: self.succeed(receipt))

    def cancel(self, reason: UploadCancelled) -> None:
        """Cancel the upload and remove its parts."""
        with self._lock:
            parts = list(self._calls)
        self.fail(reason)
        with self._lock:
            # From here on none is created.
            creating = self._stage is CREATING
        if creating:
            self._wait_for_id(reason)
            return
        for call in (self._call, *parts):
            if call is not None:
                call.cancel(reason)

    def clean_up(self, done: Callable[[], None]) -> None:
        """Abort the upload when none of its parts is in flight, because a part that arrives later would be left."""
        with self._lock:
            begun = self._stage is not NOTHING
            if begun:
                self._after_abort.append(done)
                if self._stage in (CREATING, WAITING, ABORTING):
                    return
            calls = list(self._calls)
            if begun:
                self.enter(WAITING if calls else ABORTING)
        if not begun:
            done()
            return
        reason = self._error if isinstance(self._error, UploadCancelled) else None
        for call in calls:
            call.cancel(reason or UploadCancelled("The upload was cancelled because another part failed."))
        if not calls:
            self._abort(self._upload_id)

    def all_parts_ended(self) -> None:
        """Abort the upload after its last part has ended."""
        with self._lock:
            if self._stage is not WAITING:
                return  # another thread has noticed it, too
            self.enter(ABORTING)
        self._abort(self._upload_id)

    def _abort(self, upload_id: str) -> None:
        now = self.context.clock()
        is_late = isinstance(self._error, UploadCancelled)
        seconds = max(_LATE_ABORT_SECONDS, min(_ABORT_SECONDS, 0.0 if is_late else self.deadline - now))
        self.context.client.call_in_time(
            multipart_requests.abort_multipart_upload(self.key, self.path, upload_id=upload_id),
            self._aborted,
            deadline=now + seconds,
            expected=LOOKED,
        )

    def _aborted(self, call: PendingRequest) -> None:
        if call.error is not None:
            self.context.capabilities.leaves_parts(self._address, call.error.message)
        elif call.answer is not None and call.status == DENIED:
            code, text = error_code(call.answer)
            self.context.capabilities.leaves_parts(self._address, f"{text} ({code})")
        with self._lock:
            self.enter(NOTHING)
        self._gone()

    def _gone(self) -> None:
        """Run the callbacks that waited for the abort."""
        with self._lock:
            waiting, self._after_abort = self._after_abort, []
        for done in waiting:
            done()

    def _begin_under(self, key: str, path: str) -> None:
        self._digest = None
        super()._begin_under(key, path)
