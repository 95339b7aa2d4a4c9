"""What an endpoint supports: conditional writes, which checksums, and ETags that are MD5s.

Amazon supports conditions and checksums. For other servers the first uploads find that out, and it is remembered
together with the evidence: nothing else tells a server that overwrites despite ``If-None-Match`` (``rclone serve s3``)
from one that does not. A fact is learned only from a request that tests it. Missing conditional writes weaken a
promise. So that takes two refusals and the acceptance of the same request without the condition, and each run tests
again.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal, TypeAlias

from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import Memory

Conditional: TypeAlias = Literal["yes", "ignored", "refused", ""]
"""The support of ``If-None-Match: *``: yes; ignored, so it overwrites; refused as not implemented; unknown."""

ChecksumForm: TypeAlias = Literal["crc32", "both", "md5"]
"""The headers with a write's checksum: ``x-amz-checksum-crc32``, that and ``Content-MD5``, or the latter alone."""

PartChecksums: TypeAlias = Literal["full", "composite", "none"]
"""The checksum of an upload in parts: one CRC-32 of the whole, one of the parts' CRC-32s, or none."""

CONDITIONAL_WRITES, NAMES = "conditional-writes", "names"
"""Limits of an endpoint that can be acknowledged in the configuration."""
_CONDITIONAL_PUT, _CONDITIONAL_COMPLETE = "conditional-put", "conditional-complete"
_PROTECTED = "protected-at-completion"
_FORM, _PART_CHECKSUMS = "checksum-headers", "part-checksums"
_NAMES_TOLD = "names-told"
_REPLACED = "if two writers use the same key at the same time, one can replace the other's object"
_KNOWN: dict[str, Conditional] = {"yes": "yes", "ignored": "ignored", "refused": "refused"}
_FORMS: dict[str, ChecksumForm] = {"crc32": "crc32", "both": "both", "md5": "md5"}
_PARTS: dict[str, PartChecksums] = {"full": "full", "composite": "composite", "none": "none"}
_MOST_EVIDENCE = 300
_ONCE = "once-"
"""The prefix of a verdict from one refusal that named no cause. It is believed when it is seen again."""


class NoMemory:
    """A :class:`~s3_uploader.stores.base.Memory` that lasts only as long as the object."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """The value of the key."""
        return self._known.get(key)

    def set(self, key: str, value: str) -> None:
        """Note the value of the key."""
        self._known[key] = value


class Capabilities:
    """What one endpoint supports.

    :param key: the prefix of names in the memory.
    :param trusted: it is Amazon's own, which needs no tests.
    :param checksums_when_required: the AWS configuration wants no checksum headers where none are required.
    :param acknowledged: the limits of the endpoint that cause no warning.
    """

    checksums_trusted = False
    """In this run an answer had the right checksum and the right MD5, so the checksum of a larger body is enough.

    It is not remembered: each run sees for itself that the server has both.
    """

    def __init__(
        self,
        *,
        memory: Memory,
        key: str,
        trusted: bool,
        notice: Callable[[str, str], None],
        name: str,
        checksums_when_required: bool = False,
        acknowledged: Collection[str] = (),
    ) -> None:
        self._memory = memory
        self._key = key
        self._notice = notice
        self._name = name
        self.acknowledged = frozenset(acknowledged)
        self._lock = threading.Lock()
        self._waiting: collections.deque[Callable[[], None]] = collections.deque()
        self._finding_out = False
        self._told: set[str] = set()
        self.trusted = trusted
        known, self.evidence = ("yes", "") if trusted else self._recall(_CONDITIONAL_PUT)
        self.conditional: Conditional = _KNOWN.get(known, "")
        self._due = {_CONDITIONAL_PUT} if self.conditional in ("ignored", "refused") else set()
        """The tests of what was missing that this run has still to repeat."""
        self.etags_are_md5 = self._recall("md5-etags")[0] == "yes"
        """An ETag of this bucket was the MD5 of its object, so a different one is significant."""
        self.etags_are_other = self._recall("md5-etags")[0] == "no"
        """An ETag looked like an MD5 but was not, although the object was right: here ETags say nothing."""
        form, self.form_evidence = self._recall(_FORM)
        self.form: ChecksumForm = _FORMS.get(form, "crc32")
        self._doubtful_form = form.startswith(_ONCE)
        if checksums_when_required:
            self.form = "md5"
            self.form_evidence = "the AWS configuration says request_checksum_calculation = when_required"
        elif self.form == "md5":
            self._due.add(_FORM)
        parts = self._recall(_PART_CHECKSUMS)[0]
        self.part_checksums: PartChecksums = _PARTS.get(parts, "full")
        self._doubtful_parts = parts.startswith(_ONCE)
        if self.part_checksums != "full":
            self._due.add(_PART_CHECKSUMS)
        self.asks_for_checksums = True
        """Whether no lookup that asked for a checksum was refused in this run."""
        self.answers_head = True
        """Whether no HEAD was refused in this run whose GET was answered."""
        self.form_is_taken = False
        """Whether a write with the current checksum headers was accepted, so that a refusal has another cause."""
        self.kept_names = frozenset(self._recall("names-kept")[0].split())
        """The kinds of unusual names (:mod:`s3_uploader.stores.s3.folding`) that the server keeps distinct."""
        self.merged_names = frozenset(self._recall("names-merged")[0].split())
        """The kinds for which two names are one object although a lookup shows both."""
        self.only_reading_proves = False
        """Whether neither answers nor lookups proved anything in this run, so that objects are read back at once."""
        self.completes_conditionally = self._recall(_CONDITIONAL_COMPLETE)[0] != "refused"
        if not self.completes_conditionally:
            self._due.add(_CONDITIONAL_COMPLETE)
        self.protects_at_completion = self._recall(_PROTECTED)[0]
        """Whether parts are not joined to an object that is there (``yes``, ``no``); empty if that was never tried."""

    def _recall(self, subject: str) -> tuple[str, str]:
        """The remembered verdict, and the evidence for it."""
        verdict, _, evidence = (self._memory.get(f"{subject} {self._key}") or "").partition(": ")
        return verdict, evidence

    def _note(self, subject: str, verdict: str, evidence: str = "") -> None:
        value = f"{verdict}: {evidence[:_MOST_EVIDENCE]}" if evidence else verdict
        self._memory.set(f"{subject} {self._key}", value)

    def _takes(self, test: str) -> bool:
        """Whether the caller is the first in this run to ask for a test that is due, and so makes it."""
        with self._lock:
            is_due = test in self._due
            self._due.discard(test)
        return is_due

    # What answers prove.

    def saw_both_proofs(self) -> None:
        """Note that an answer had the right checksum and the right MD5."""
        if not self.etags_are_other:
            self.checksums_trusted = True

    def saw_md5_etag(self) -> None:
        """Note that the ETag of an answer was the MD5 of the sent bytes."""
        if not self.etags_are_md5 and not self.etags_are_other:
            self.etags_are_md5 = True
            self._note("md5-etags", "yes")

    def saw_other_etag(self) -> None:
        """Note that an ETag looked like an MD5 but was not, although the object was right: ignore ETags here."""
        if not self.etags_are_other:
            self.etags_are_other = True
            self.etags_are_md5 = self.checksums_trusted = False
            self._note("md5-etags", "no")

    def keeps_names(self, kinds: frozenset[str]) -> None:
        """Note that names of these kinds are stored unchanged and kept distinct."""
        self._merged(self.merged_names - kinds)
        if not kinds <= self.kept_names:
            self.kept_names |= kinds
            self._note("names-kept", " ".join(sorted(self.kept_names)))

    def forgets_names(self, kinds: frozenset[str]) -> None:
        """Note that names of these kinds are not kept distinct, whatever was seen before."""
        if kinds & self.kept_names:
            self.kept_names -= kinds
            self._note("names-kept", " ".join(sorted(self.kept_names)))

    def merges_names(self, kinds: frozenset[str]) -> None:
        """Note that two names of these kinds look distinct, but the second overwrites the first."""
        self.forgets_names(kinds)
        self._merged(self.merged_names | kinds)

    def _merged(self, kinds: frozenset[str]) -> None:
        if kinds != self.merged_names:
            self.merged_names = kinds
            self._note("names-merged", " ".join(sorted(kinds)))

    def takes_for_one(self, kind: str, key: str, twin: str, *, is_replaced: bool) -> None:
        """Note that an object is visible under two names.

        That is reported when it is found first, or in each run if a file overwrites the object.
        """
        self.forgets_names(frozenset((kind,)))
        is_news = is_replaced or self._recall(_NAMES_TOLD)[0] != "yes"
        if is_news and "names" not in self._told and NAMES not in self.acknowledged:
            self._note(_NAMES_TOLD, "yes")
            key, twin = _told_apart(key, twin)
            self.tell_once(
                "names",
                "warning",
                f"{self._name} treats different names as one: the object {key} is also found as {twin}. Of two such "
                "files the second is kept and fails. With on_conflict: overwrite it replaces the first. To "
                f"acknowledge this, set {acknowledging(NAMES)}.",
            )

    def leaves_parts(self, address: str, why: str) -> None:
        """Say once in a run that the parts of an upload are left, because it could not be aborted."""
        self.tell_once(
            "parts",
            "warning",
            f"The parts of an unfinished upload of {address} could not be removed: {why.rstrip('.')}. They take room "
            "at the destination. Allow s3:AbortMultipartUpload, and let a lifecycle rule abort unfinished uploads.",
        )

    def tell_once(self, subject: str, level: str, text: str) -> None:
        """Say something about a subject, once in a run."""
        with self._lock:
            is_first = subject not in self._told
            self._told.add(subject)
        if is_first:
            self._notice(level, text)

    # Which checksums are accepted.

    def takes_form(self, form: ChecksumForm, evidence: str, *, named: bool) -> None:
        """Note that a write with other checksum headers was refused, and accepted with these.

        :param named: the refusal named the checksums. A refusal that names nothing may have any cause, so it is
            believed when it comes twice.
        """
        if form == self.form:
            self.form_is_taken = True
        elif not (named or self._doubtful_form):
            self._doubtful_form = True
            self._note(_FORM, f"{_ONCE}{form}", evidence)
        else:
            self.form = form
            self.form_evidence = evidence
            self._doubtful_form = False
            self._note(_FORM, form, evidence)
            self.form_is_taken = True
            if form == "crc32":
                self._notice("info", f"{self._name} accepts checksums now, so they are sent again.")
            else:
                words = "beside the checksum" if form == "both" else "instead"
                text = f"{self._name} refuses uploads as they were sent: {evidence}. Content-MD5 is sent {words}."
                self._notice("info", text)

    def takes_usual_form(self) -> None:
        """Note that a write with the current checksum headers was accepted, so that a refusal has another cause."""
        self.form_is_taken = True
        if self._doubtful_form:
            self._doubtful_form = False
            self._note(_FORM, self.form)

    def tries_checksums(self) -> bool:
        """Whether the caller tests again if checksums are accepted: once in a run."""
        return bool(self._due) and self._takes(_FORM)

    def takes_part_checksums(self, checksums: PartChecksums, evidence: str, *, named: bool) -> None:
        """Note that an upload in parts was accepted with these checksums; with evidence, after others were refused.

        :param named: the refusal named the checksums, as with :meth:`takes_form`.
        """
        if checksums == self.part_checksums:
            if self._doubtful_parts and not evidence:
                self._doubtful_parts = False
                self._note(_PART_CHECKSUMS, checksums)
        elif not (named or self._doubtful_parts):
            self._doubtful_parts = True
            self._note(_PART_CHECKSUMS, f"{_ONCE}{checksums}", evidence)
        else:
            self.part_checksums = checksums
            self._doubtful_parts = False
            self._note(_PART_CHECKSUMS, checksums, evidence)

    def tries_part_checksums(self) -> bool:
        """Whether the caller tests again if one checksum of the whole is accepted: once in a run."""
        return bool(self._due) and self._takes(_PART_CHECKSUMS)

    def completes_with_condition(self, does: bool, evidence: str = "") -> None:
        """Note whether parts are joined under a condition. That says nothing about uploads in one request."""
        if does != self.completes_conditionally:
            self.completes_conditionally = does
            self._note(_CONDITIONAL_COMPLETE, "yes" if does else "refused", evidence)

    def found_at_completion(self, protects: bool, evidence: str) -> None:
        """Note whether a conditional completion leaves an object that is there as it is."""
        self.protects_at_completion = "yes" if protects else "no"
        self._note(_PROTECTED, self.protects_at_completion, evidence)

    def tries_condition_at_completion(self) -> bool:
        """Whether the caller tests again if parts are joined under a condition: once in a run."""
        return bool(self._due) and self._takes(_CONDITIONAL_COMPLETE)

    # Conditional writes.

    def admit(self, go: Callable[[], None], *, may_wait: bool = True) -> bool | None:
        """Ask for permission to send a conditional write.

        :param may_wait: wait for an upload that is testing the endpoint. An unusual name, which the server may refuse,
            does not wait: many of them in sequence would take long. It is looked up before it is written, as if nothing
            were known.
        :returns: ``None``: the answer is known, go ahead. ``True``: the caller makes the test and must call
            :meth:`found`.
            ``False``: another upload makes the test, and ``go`` will be called after it.
        """
        if self.conditional:
            return None
        with self._lock:
            if self.conditional:
                return None
            if self._finding_out:
                if not may_wait:
                    return None
                self._waiting.append(go)
                return False
            self._finding_out = True
            return True

    def look_again(self) -> bool:
        """Whether the caller tests again if conditional writes work: once in a run, and no upload waits for that."""
        return bool(self._due) and self._takes(_CONDITIONAL_PUT)

    def found(self, conditional: Conditional, evidence: str = "", *, is_told: bool = False) -> None:
        """Note the result of the test; an empty value leaves the test to the next upload.

        A missing feature is reported when it is found, but not by the runs that recall it: ``check`` and ``status``
        always report it.

        :param evidence: the request and its answer, for a verdict other than ``yes``.
        :param is_told: the caller reports it.
        """
        with self._lock:
            self._finding_out = False
            before = self.conditional
            if conditional:
                self.conditional = conditional
                self.evidence = evidence
            ready = list(self._waiting)
            self._waiting.clear()
        if conditional and (conditional != before or conditional != "yes"):
            self._note(_CONDITIONAL_PUT, conditional, evidence)
            if conditional == "yes" and before:
                self._notice("info", f"{self._name} supports conditional writes now.")
            elif conditional != "yes" and before != conditional and not is_told:
                self._warn()
        for go in ready:
            go()

    def _warn(self) -> None:
        if CONDITIONAL_WRITES in self.acknowledged:
            return
        because = f" ({self.evidence})" if self.evidence else ""
        self._notice(
            "warning",
            f"{self._name} does not support conditional writes{because}. The program checks whether a key is taken "
            f"before it writes, but {_REPLACED}. To acknowledge this, set {acknowledging(CONDITIONAL_WRITES)}.",
        )


def _told_apart(key: str, twin: str) -> tuple[str, str]:
    """Two names in a form in which a reader sees the difference: some look alike on every screen."""
    import unicodedata

    if unicodedata.normalize("NFKC", key) == unicodedata.normalize("NFKC", twin):
        return ascii(key)[1:-1], ascii(twin)[1:-1]
    return shown_name(key), shown_name(twin)


def acknowledging(limit: str) -> str:
    """The line of the configuration that acknowledges a limit."""
    return f'"acknowledged": ["{limit}"]'


def remembered_limits(known: Mapping[str, str], *, bucket: str, acknowledged: Collection[str]) -> Iterator[str]:
    """Sentences about the limits of a bucket's endpoints, from what runs have learned.

    :param known: the remembered values, as in :class:`~s3_uploader.stores.base.Memory`.
    """
    for name, text in sorted(known.items()):
        subject, _, key = name.partition(" ")
        if (
            subject == _CONDITIONAL_PUT
            and key.endswith(f"/{bucket}")
            and text.partition(": ")[0] in ("ignored", "refused")
            and CONDITIONAL_WRITES not in acknowledged
        ):
            yield f"{key.removesuffix(f'/{bucket}')} does not support conditional writes: {_REPLACED}."


def fewer_part_checksums(checksums: PartChecksums) -> PartChecksums | None:
    """The weaker checksums to use if these are refused; ``None`` if there are none."""
    fewer: dict[PartChecksums, PartChecksums] = {"full": "composite", "composite": "none"}
    return fewer.get(checksums)
