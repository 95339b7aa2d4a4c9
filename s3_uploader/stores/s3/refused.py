"""What a refusal concerns: the name, the credentials, a missing permission, or a server that is not S3."""

from __future__ import annotations

import re
from collections.abc import Callable

from s3_uploader.core.errors import Scope, StoreError, UploadCancelled
from s3_uploader.core.text import is_plain
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.engines.base import CONTENT_RANGE, Answer
from s3_uploader.stores.s3.foreign import without_blame
from s3_uploader.stores.s3.meanings import DENIALS, UNEXPLAINED, Kind, kind_of
from s3_uploader.stores.s3.probe import Reply, Said
from s3_uploader.stores.s3.refusals import NO_PARTS_HINT, explain_setting, knows_no_parts
from s3_uploader.stores.s3.upload import KNOWS_NO_HEAD, KNOWS_NO_MODE, ObjectUpload

_GOT = frozenset((404, 416))
_SLOW = frozenset((408, 429, 503, 504))
_REFUSED = (
    "This server accepts plain names and refuses this one. Rename the file, or find out what changes such names "
    "on the way to the server."
)
_MAYBE_REFUSED = (
    "This server answers for plain names. It may not accept this one, or it cannot store anything now. Check its log "
    "and its disk. If files with plain names are accepted, rename this one."
)
"""For an error that the server calls its own."""


class RefusableUpload(ObjectUpload):
    """An upload that makes another request after a refusal, before it reports the reason or does without."""

    def refuse(self, call: PendingRequest, error: StoreError) -> None:
        """Fail with ``error``, unless a request for a plain name shows another cause."""
        refusal = call.refusal
        kind = kind_of(error)
        # Some servers hang up on a name that breaks them.
        says_nothing = kind is not Kind.HUNG_UP if refusal is None else refusal.status in _SLOW
        if says_nothing or isinstance(error, UploadCancelled):
            self.fail(error)
            return
        # The server has accepted the name of an upload that was begun.
        is_odd = not is_plain(self.key) and not (call.request.operation == "UploadPart" and error.scope is Scope.FILE)
        of_all = not (is_odd or self.context.client.proven_useful)
        header = refusal is not None and explain_setting(error, refusal, call.request.headers, of_all=of_all)
        if not error.hint and error.scope is Scope.FILE and is_odd:
            error.hint = "The server may not accept this name. Rename the file."
        is_bare = kind in UNEXPLAINED
        is_name = is_odd and (error.scope is Scope.DESTINATION or error.retryable or is_bare)
        if not (header or is_name) and knows_no_parts(call.request, error):
            self.context.probe.ask(lambda reply: self.guard(self._parts_refused, error, reply))
        elif is_name or is_bare:
            self.context.probe.ask(lambda reply: self.guard(self._refused, error, reply, is_name))
        else:
            self.fail(error)

    def refuse_look(self, error: StoreError) -> None:
        """Fail with ``error``, because a lookup is denied without which nothing may be written.

        If a plain name may be looked up, the denial concerns this name only, and only this file fails.
        """
        if is_plain(self.key):
            self.fail(error)
        else:
            self.context.probe.ask(lambda reply: self.guard(self._look_refused, error, reply))

    def _look_refused(self, error: StoreError, reply: Reply) -> None:
        if reply.error is not None:
            self.fail(reply.error)
        else:
            self.fail(_refused_name(error) if reply.said is Said.SERVES else error)

    def _parts_refused(self, error: StoreError, reply: Reply) -> None:
        if reply.error is not None:
            self.fail(reply.error)
        elif reply.said is Said.UNCLEAR:
            self.fail(error)
        else:
            # Smaller files are accepted, so not every file would meet this error.
            self.fail(StoreError(error.message, code=error.code, retryable=error.retryable, hint=NO_PARTS_HINT))

    def _refused(self, error: StoreError, reply: Reply, is_name: bool) -> None:
        if reply.error is not None:
            self.fail(reply.error)
            return
        is_denial = kind_of(error) in DENIALS
        if reply.said is Said.UNCLEAR:
            self.fail(error)
        elif is_name and (not is_denial or self.context.takes_plain_names):
            self.context.names_refused += error.retryable
            self.fail(_refused_name(error))
        elif is_denial:
            self.fail(
                StoreError(
                    error.message,
                    code="AccessDenied",
                    origin=error.origin,
                    scope=error.scope,
                    hint=f"The credentials are right, so a permission is missing. {error.hint}",
                )
            )
        else:
            self.fail(error)

    def require_s3(self, then: Callable[[], None], answer: Answer | None) -> None:
        """Call ``then``, unless the endpoint gives the same answer for a key that does not exist.

        It has done something useful before if it is an S3 server. Something else may stand in for it by now, whose
        answers name no ETag.
        """
        known = self.context.client.proven_useful and answer is not None and "etag" in answer.headers
        if known or self.context.capabilities.trusted:
            then()
            return

        def told(reply: Reply) -> None:
            if reply.said is Said.NOT_S3 and reply.error is not None:
                self.fail(reply.error)
            else:
                then()

        self.context.probe.ask(lambda reply: self.guard(told, reply))

    def head_refused(
        self, call: PendingRequest, finished: Callable[[PendingRequest], None], expected: frozenset[int]
    ) -> None:
        """Look again without a request for a checksum, or with a GET."""

        def answered_plainly(call: PendingRequest) -> None:
            if call.error is None and call.status in KNOWS_NO_HEAD and not self.over:
                self.look_by_get(finished, expected)
                return
            if call.error is None and call.status not in KNOWS_NO_MODE:
                self.context.capabilities.asks_for_checksums = False
            finished(call)

        if "x-amz-checksum-mode" in call.request.headers and call.status in KNOWS_NO_MODE:
            self.call(self.head_request(checksums=False), answered_plainly, expected | KNOWS_NO_HEAD)
        else:
            self.look_by_get(finished, expected)

    def look_by_get(self, finished: Callable[[PendingRequest], None], expected: frozenset[int]) -> None:
        """Look at the object with a GET of its first byte, whose answer is passed on as that to a HEAD."""

        def got(call: PendingRequest) -> None:
            if call.error is None and (call.status in (200, 206) or call.status in _GOT):
                self.context.capabilities.answers_head = False
                if call.status != 404:
                    call.answer = _as_head(call.body)
                    call.status = call.answer.status
            finished(call)

        own = self.options.content_encoding
        request = requests.get_object(
            self.key, self.path, first=0, last=0, etag="", encoding=own, size=self.source.size
        )
        self.call(request, got, expected | _GOT)


def _refused_name(error: StoreError) -> StoreError:
    """The error for a name that is refused while plain ones are accepted."""
    message = error.message
    if kind_of(error) is Kind.NOT_S3:
        # The server is S3: only this name leads elsewhere.
        message = without_blame(message)
    return StoreError(message, code="KeyRefused", hint=_MAYBE_REFUSED if error.retryable else _REFUSED)


def _as_head(answer: Answer) -> Answer:
    """The answer to a HEAD, made of that to a GET of the first byte. Its length is left out if it is unknown."""
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    found = re.fullmatch(CONTENT_RANGE, headers.pop("content-range", ""))
    if answer.status == 200:
        headers["content-length"] = str(len(answer.body))
    elif found is not None and found[3] != "*":
        headers["content-length"] = found[3]
    return Answer(status=200, headers=headers)
