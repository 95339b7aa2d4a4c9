"""Conflicts of an upload: what is under the key, whether it is ours, and what follows from that.

The steps run like those of :mod:`s3_uploader.stores.s3.upload`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from s3_uploader.core.errors import ConflictError, Scope, StoreError
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checksums import Comparison, clean_etag, compare, strong_etag
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.errors import is_archived, parse_http_date
from s3_uploader.stores.s3.proof import LOOKED, ProvenUpload
from s3_uploader.stores.s3.refusals import Blame, blame, said
from s3_uploader.stores.s3.requests import UNCONDITIONAL, UNLESS_THERE, if_match

_MAXIMUM_TURNS = 6
"""How often an upload may find a new state of its key before it fails, because two writers can overtake each other."""
_TURN_SECONDS = 0.25
"""The pause before the third turn if the key was taken and then free. It doubles with each further turn."""
DENIED = 403
_SIGHTINGS = 2
"""How often a condition must be refused before the object is written without it."""


class ContestedUpload(ProvenUpload):
    """An upload to a key that others may also use. Subclasses send the content."""

    in_parts = False
    looks_for_lost = True
    """Whether the object is looked up after a lost answer, before anything is sent again."""
    _sighting = ""
    """The refusal because of which the current write has no condition; empty if there was none."""
    _sightings = 0
    _times = ("", "")
    """When the object that was looked at was stored and when that was answered, as the server says it."""
    _was_free = False
    """The last lookup of a key that a write had found taken said that it is free."""

    def begin(self) -> None:
        """Check the name if the server may treat it as another's, and set out."""
        if self.name_checks is not None and not self.over:
            self.name_checks.check_before(self.set_out, lambda call: self._examine(call, ours=False))
        else:
            self.set_out()

    def found_after_all(self, call: PendingRequest) -> None:
        """Handle a lost answer to a write if an object is under the key now."""
        self._turns += 1
        if self._turns > _MAXIMUM_TURNS:
            self._give_up()
        else:
            self._examine(call, ours=True)

    def _give_up(self) -> None:
        """Fail, because each turn has found another state of the key."""
        fact = f"{self._address} is changed again and again by another writer."
        hint = _conflict_hint()
        if self._was_free:
            fact = f"The server contradicts itself: a write finds {self._address} taken, a lookup finds no object."
            hint = "It may need time to show or to delete an object. The file is kept, and the next run tries again."
        self.fail(ConflictError(fact, hint=hint))

    def condition_failed(self, call: PendingRequest) -> None:
        """Handle an unmet condition: an object exists, or the one to replace does not."""
        if call.status == 404:
            self.condition = UNLESS_THERE
            self.rewrite()
        else:
            self.taken(ours=call.attempts > 1)

    def condition_refused(self, call: PendingRequest) -> bool:
        """Handle a refusal that may concern the condition. Returns ``False`` if it has another cause.

        A refusal is believed when it comes twice, and remembered when the same request is accepted without the
        condition.
        """
        refusal = call.refusal
        if refusal is None or not self.condition.header:
            return False
        if blame(refusal, call.request.headers) not in (Blame.CONDITION, Blame.UNNAMED):
            return False
        self._sightings += 1
        if self._sightings < _SIGHTINGS and self.context.capabilities.conditional != "refused":
            self.rewrite()
            return True
        self._sighting = (
            f"{call.request.operation} with {self.condition.header} was refused and without it accepted: "
            f"{said(refusal)}"
        )
        replacing = self.condition.header == "if-match"
        self.condition = UNCONDITIONAL
        if replacing or self.options.on_conflict is OnConflict.OVERWRITE:
            self.rewrite()
        else:
            self.look_first()
        return True

    def take_sighting(self) -> str:
        """Return the refusal because of which the accepted write had no condition, once; empty if there was none."""
        sighting, self._sighting = self._sighting, ""
        return sighting

    # Conflicts.

    @property
    def _must_see(self) -> bool:
        """Whether only a lookup can prevent the next write from overwriting an object."""
        known = self.context.capabilities
        is_replaced = known.conditional in ("ignored", "refused")
        return not self.condition.header or is_replaced or (self.in_parts and known.protects_at_completion == "no")

    def not_free(self, call: PendingRequest) -> None:
        """Find out what is under a key that a first lookup did not find free."""
        if call.error is not None:
            self.refuse(call, call.error)
        elif call.status == 200:
            self.require_s3(lambda: self._examine(call, ours=False), call.answer)
        elif call.status == DENIED:
            self.write_unseen(self.rewrite)
        elif not self._must_see:
            self.rewrite()
        else:
            self._ask_why(self._cannot_look)

    def write_unseen(self, write: Callable[[], None]) -> None:
        """Write to a key that may not be looked up, once it is known that the server protects an object there."""
        known, trial = self.context.capabilities, self.context.names
        protection = known.protects_at_completion if self.in_parts else known.conditional
        if trial is None or protection or self._must_see:
            self._write_if_safe(write)
        else:
            then = functools.partial(self.guard, self._write_if_safe, write)
            self.context.conditions.ask(trial, then, in_parts=self.in_parts)

    def _write_if_safe(self, write: Callable[[], None]) -> None:
        if self.over:
            return
        if self.context.capabilities.conditional:
            self._is_probe = False  # the trial was one
        if self._must_see:
            self._ask_why(self._cannot_look)
        else:
            write()

    def _ask_why(self, denied: Callable[[PendingRequest], None]) -> None:
        """Repeat a refused HEAD as a GET, which gives the reason. ``denied``: only a permission is missing."""

        def asked(call: PendingRequest) -> None:
            if self.over:
                return
            is_denial = call.status in (401, 403) and call.error is not None
            if call.error is not None and (
                not is_denial or call.error.scope is Scope.DESTINATION or call.error.retryable
            ):
                self.refuse(call, call.error)
            elif call.error is not None:
                denied(call)
            elif call.status == 404:
                self.rewrite()
            else:
                # Something between here and the server blocks HEAD requests.
                headers = {"etag": call.body.headers.get("etag", "")}
                self._compare_with_ours(headers, ours=False)

        request = requests.get_object(self.key, self.path, first=0, last=0, etag="")
        self.call(request, asked, frozenset((404, 416)))

    def _cannot_look(self, call: PendingRequest) -> None:
        fact = f"It is unknown whether {self._address} is taken, because looking it up is not permitted."
        lacks = "conditional writes"
        is_of_parts = self.in_parts and self.context.capabilities.conditional not in ("ignored", "refused")
        if is_of_parts:
            lacks = "conditions where parts are joined"
        hint = (
            f"This server does not support {lacks}, so the program must look first. Grant s3:GetObject, and "
            "s3:ListBucket, without which S3 does not report that a key is free."
        )
        if is_of_parts:
            # Smaller files are accepted.
            self.fail(StoreError(fact, code="AccessDenied", origin=Origin.FILE_RIGHT, hint=hint))
            return
        self.refuse_look(
            StoreError(fact, code="AccessDenied", origin=Origin.CREDENTIALS, scope=Scope.DESTINATION, hint=hint)
        )

    def taken(self, *, ours: bool) -> None:
        """Handle an unmet condition of a write.

        :param ours: an earlier attempt of this upload may have stored the object.
        """
        self._turns += 1
        if self._turns > _MAXIMUM_TURNS:
            self._give_up()
            return
        self.head(lambda call: self._looked_after_conflict(call, ours=ours), LOOKED)

    def _looked_after_conflict(self, call: PendingRequest, *, ours: bool) -> None:
        if self.over:
            return
        if call.error is not None:
            self.refuse(call, call.error)
        elif call.status == 404:
            # It was deleted meanwhile, or the server shows objects late.
            self.condition = UNLESS_THERE if self.condition.header else UNCONDITIONAL
            self._was_free = True
            if self._turns > 1:
                self.after(_TURN_SECONDS * 2.0 ** (self._turns - 2), self.rewrite)
            else:
                self.rewrite()
        elif call.status == 403:
            if self.options.on_conflict is OnConflict.OVERWRITE:
                self._replace()
                return
            self._ask_why(self._cannot_examine)
        else:
            self._examine(call, ours=ours)

    def _cannot_examine(self, call: PendingRequest) -> None:
        hint = "Grant s3:GetObject so that the program can find out."
        if is_archived(call.answer or call.refusal):
            hint = (
                "The object is archived and cannot be read. Restore it so that the program can compare, or remove one "
                "of the two."
            )
        self.fail(ConflictError(f"{self._address} is taken, and it is unknown whether by the same content.", hint=hint))

    def _examine(self, call: PendingRequest, *, ours: bool) -> None:
        """Find out whether the object under the key has our content."""
        self._was_free = False
        headers = call.body.headers
        self._times = headers.get("last-modified", ""), headers.get("date", "")
        comparison, proof = compare(headers, self.digest(), etag_counts=self.etag_counts)
        if comparison is Comparison.UNKNOWN or (comparison is Comparison.SAME and proof < self.options.minimum_proof):
            self._compare_with_ours(headers, ours=ours)
        elif comparison is Comparison.SAME:
            self._is_there(headers, proof, ours=ours)
        else:
            etag = clean_etag(headers.get("etag", ""))
            if self.may_be_recoded(headers):
                self._compare_with_ours({}, ours=ours, unreadable=lambda call: self._other_content(etag))
            else:
                self._other_content(etag)

    def _compare_with_ours(
        self,
        headers: dict[str, str],
        *,
        ours: bool,
        unreadable: Callable[[PendingRequest], None] | None = None,
    ) -> None:
        """Read the object and compare it, because its headers do not tell."""
        self.compare_bytes(
            headers,
            same=lambda etag: self._is_there({"etag": etag, **headers}, Proof.CHECKSUM, ours=ours),
            other=self._other_content,
            unreadable=unreadable or self._cannot_examine,
        )

    def _is_there(self, headers: dict[str, str], proof: Proof, *, ours: bool) -> None:
        """Succeed: the same content is under the key already."""
        digest = self.digest()
        self.conclude(
            Receipt(
                key=self.key,
                size=self.source.size,
                proof=proof,
                checksum=f"crc32:{digest.crc32}" if digest.crc32 else f"md5:{digest.md5}",
                etag=clean_etag(headers.get("etag", "")),
                version_id=headers.get("x-amz-version-id", ""),
                already_there=not ours,
                after_lost_answer=ours,
            )
        )

    def _other_content(self, etag: str) -> None:
        """Handle other content under the key, unless it is a web page in the place of the server, which has no ETag."""
        if etag:
            self._resolve(etag)
        else:
            self.require_s3(lambda: self._resolve(etag), None)

    def _resolve(self, etag: str) -> None:
        """Handle other content under the key, as configured."""
        if self.replaces and etag == self.replaces and not self.derived:
            value = f'"{strong_etag(etag)}"'
            if self.condition == if_match(value):
                # It is that object although the condition was not met: Ceph 16 compares with the ETag without its
                # quotes.
                value = strong_etag(etag)
            knows = self.context.capabilities.conditional == "yes" and self._sightings < _SIGHTINGS
            self.condition = if_match(value) if knows else UNCONDITIONAL
            self.rewrite()
        elif self.options.on_conflict is OnConflict.OVERWRITE:
            self._replace()
        elif self.options.on_conflict is OnConflict.KEEP_BOTH and not self.derived:
            self.on_crew(self._derive_key)
        else:
            stored, answered = map(parse_http_date, self._times)
            age = None if stored is None or answered is None else answered - stored
            fact = f"{self._address} is taken by other content."
            self.fail(ConflictError(fact, hint=_conflict_hint(), existing=etag, age=age))

    def _replace(self) -> None:
        self.condition = UNCONDITIONAL
        self.rewrite()

    def _derive_key(self) -> None:
        if not self.start_reading():
            return
        try:
            from s3_uploader.stores.keys import derived_key

            key = derived_key(self.requested_key, self.content_sha256())
            path = requests.encode_key(key)
        except StoreError as error:
            self.fail(error)
            return
        finally:
            self.stop_reading()
        self.derived = True
        self.clean_up(lambda: self._begin_under(key, path))

    def _begin_under(self, key: str, path: str) -> None:
        self.key, self.path = key, path
        self.name_checks = None
        self.condition = UNLESS_THERE
        was_probe, self._is_probe = self._is_probe, False
        if was_probe:
            self.context.capabilities.found("")
        self.begin()


def _conflict_hint() -> str:
    return "Remove or rename one of the two, or set on_conflict to keep-both or overwrite."
