"""Whose a refusal is: the name's, the credentials', a missing right's, or no S3 server's at all."""

from __future__ import annotations

from collections.abc import Callable

from s3_uploader.core.errors import Scope, StoreError, UploadCancelled
from s3_uploader.core.text import is_plain
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.engines.base import Answer
from s3_uploader.stores.s3.errors import NOT_S3
from s3_uploader.stores.s3.probe import Reply, Said
from s3_uploader.stores.s3.refusals import NO_PARTS_HINT, knows_no_parts, named_header
from s3_uploader.stores.s3.upload import ObjectUpload

_SLOW = frozenset((408, 429, 503, 504))
_HUNG_UP = frozenset(("ConnectionLost", "InvalidAnswer"))
"""What some servers do with a name that breaks them."""
_DENIALS = frozenset(("AccessDenied", "401", "403"))
_REFUSED = (
    "This server takes plain names and refuses this one: rename the file, or look at what on the way to the server "
    "changes such names."
)
_MAYBE_REFUSED = (
    "This server answers for plain names. It may not take this one, or it can store nothing now: look at its log and "
    "its disk; if files with plain names are taken, rename this one."
)
"""Of an error that the server calls its own."""
_SETTINGS = {
    "x-amz-tagging": "tags",
    "x-amz-storage-class": "storage_class",
    "x-amz-acl": "acl",
    "x-amz-server-side-encryption": "sse",
}


class RefusableUpload(ObjectUpload):
    """An upload that asks once more before it says why it was refused."""

    def refuse(self, call: PendingRequest, error: StoreError) -> None:
        """The upload fails with ``error``, unless a plain name of ours tells that something else is meant."""
        refusal = call.refusal
        says_nothing = error.code not in _HUNG_UP if refusal is None else refusal.status in _SLOW
        if says_nothing or isinstance(error, UploadCancelled):
            self.fail(error)
            return
        header = "" if refusal is None else named_header(refusal, call.request.headers)
        # The name of an upload that was begun is one that the server takes.
        is_odd = not is_plain(self.key) and not (call.request.operation == "UploadPart" and error.scope is Scope.FILE)
        if header and error.scope is Scope.FILE:
            setting = _SETTINGS.get(header, header)
            error.hint = f"The server does not take {header} as it is sent: change {setting} or leave it out."
        elif not error.hint and error.scope is Scope.FILE and is_odd:
            error.hint = "The server may not take this name: rename the file."
        is_bare = error.code in ("400", "401", "403")
        is_name = is_odd and (error.scope is Scope.DESTINATION or error.retryable or is_bare)
        if not (header or is_name) and knows_no_parts(call.request, error):
            self.context.probe.ask(lambda reply: self.guard(self._parts_refused, error, reply))
        elif is_name or is_bare:
            self.context.probe.ask(lambda reply: self.guard(self._refused, error, reply, is_name))
        else:
            self.fail(error)

    def refuse_look(self, error: StoreError) -> None:
        """A look is denied, without which nothing may be written: the upload fails with ``error``.

        If a plain name of ours may be looked at, the denial is about this name, and costs only this file.
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
            # Smaller files go, so it is no fault that all of them would meet.
            self.fail(StoreError(error.message, code=error.code, retryable=error.retryable, hint=NO_PARTS_HINT))

    def _refused(self, error: StoreError, reply: Reply, is_name: bool) -> None:
        if reply.error is not None:
            self.fail(reply.error)
            return
        is_denial = error.code in _DENIALS
        if reply.said is Said.UNCLEAR:
            self.fail(error)
        elif is_name and (not is_denial or self.context.takes_plain_names):
            self.fail(_refused_name(error))
        elif is_denial:
            self.fail(
                StoreError(
                    error.message,
                    code="AccessDenied",
                    origin=error.origin,
                    scope=error.scope,
                    hint=f"The credentials are right, so a right is missing. {error.hint}",
                )
            )
        else:
            self.fail(error)

    def sure_it_is_s3(self, then: Callable[[], None], answer: Answer | None) -> None:
        """Call ``then``, unless the endpoint gives the same answer for a key that does not exist.

        It has done something useful before if it is an S3 server. Something else may stand in for it by now, whose
        answers name no ETag.
        """
        known = self.context.caller.proven_useful and answer is not None and "etag" in answer.headers
        if known or self.context.capabilities.trusted:
            then()
            return

        def told(reply: Reply) -> None:
            if reply.said is Said.NOT_S3 and reply.error is not None:
                self.fail(reply.error)
            else:
                then()

        self.context.probe.ask(lambda reply: self.guard(told, reply))


def _refused_name(error: StoreError) -> StoreError:
    """The error of a name that is refused where plain ones are taken."""
    message = error.message
    if error.code == "NotS3":
        # It is one: only this name leads to something else there.
        message = message.removeprefix(NOT_S3)
        message = message[:1].upper() + message[1:]
    return StoreError(message, code="KeyRefused", hint=_MAYBE_REFUSED if error.retryable else _REFUSED)
