"""Conflicts and proof of an upload: what is under the key, is it ours, and what now.

The steps run as those of :mod:`s3_uploader.stores.s3.upload` do.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from s3_uploader.core.errors import ConflictError, ProofError, Scope, StoreError
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.stores.keys import derived_key
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checksums import Comparison, clean_etag, compare
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.engines.base import Request
from s3_uploader.stores.s3.requests import UNCONDITIONAL, UNLESS_THERE, Condition
from s3_uploader.stores.s3.upload import ObjectUpload

LOOKED = frozenset((403, 404))
_REFUSED = frozenset(range(300, 500)) - {408, 429}
_READ = LOOKED | {412, 416}
_FAILED_CONDITIONS = {"": frozenset[int](), "if-none-match": frozenset((412,)), "if-match": frozenset((404, 412))}
"""By condition: the statuses that say that it did not hold. ``If-Match`` on a key without an object is a 404."""
_MAXIMUM_TURNS = 6
"""So often an upload may find something new about its key before it gives up; two writers can chase each other."""


class ContestedUpload(ObjectUpload):
    """An upload to a key that others may use too. Its subclasses know how to send what."""

    __slots__ = ()

    @property
    def etag_counts(self) -> bool:
        """Whether an ETag that looks like another MD5 than ours is taken at its word."""
        return self.options.minimum_proof > Proof.SIZE

    def begin(self) -> None:
        """Set out: decide whether to look first, and write."""
        if self.over:
            return
        capabilities = self.context.capabilities
        if self.options.on_conflict is OnConflict.OVERWRITE and capabilities.conditional != "yes":
            # Where replacing is wanted a condition only saves sending the same content twice.
            self.condition = UNLESS_THERE if capabilities.conditional == "" else UNCONDITIONAL
            self.write()
            return
        probe = capabilities.admit(self.begin)
        if probe is False:
            return
        self._is_probe = probe is True
        if self._is_probe or capabilities.conditional != "yes":
            if capabilities.conditional == "refused":
                self.condition = UNCONDITIONAL
            self._look_first()
        else:
            self.write()

    @property
    def failed_condition(self) -> frozenset[int]:
        """The statuses that say that the present condition did not hold."""
        return _FAILED_CONDITIONS[self.condition.header]

    def send_write(self, request: Request, finished: Callable[[PendingRequest], None]) -> None:
        """Send what makes the object; should its answer be lost, it is looked for before anything is sent again."""
        self.call(request, finished, self.failed_condition, look=self._look)

    def _look(self) -> Request:
        return requests.head_object(self.key, self.path)

    def found_after_all(self, call: PendingRequest) -> None:
        """The answer to a write was lost, and there is something under the key now."""
        self._turns += 1
        if self._turns > _MAXIMUM_TURNS:
            self.fail(ConflictError(f"{self._address} keeps changing under another writer.", hint=_conflict_hint()))
        else:
            self._examine(call, ours=True)

    def condition_failed(self, call: PendingRequest) -> None:
        """The condition of a write did not hold: something is there, or what was to be replaced is gone."""
        if call.status == 404:
            self.condition = UNLESS_THERE
            self.rewrite()
        else:
            self.taken(ours=call.attempts > 1)

    def condition_refused(self) -> None:
        """The server answered 501 to the condition: look and write without."""
        replacing = self.condition.header == "if-match"
        self.condition = UNCONDITIONAL
        if not replacing:
            self.report("refused")
            self.context.capabilities.refuses()
        if replacing or self._looked or self.options.on_conflict is OnConflict.OVERWRITE:
            self.rewrite()
        else:
            self._look_first()

    # Conflicts.

    def _look_first(self) -> None:
        self._looked = True
        # The answer to a HEAD has no document that says why it was refused. The write gets one, if it may be tried.
        expected = LOOKED if self.context.capabilities.conditional in ("ignored", "refused") else _REFUSED
        self.call(requests.head_object(self.key, self.path), self._looked_first, expected)

    def _looked_first(self, call: PendingRequest) -> None:
        if self.over:
            return
        if call.error is not None:
            self.fail(call.error)
        elif call.status == 200:
            self._examine(call, ours=False)
        elif call.status == 403 and self.context.capabilities.conditional in ("ignored", "refused"):
            self.fail(
                StoreError(
                    f"It cannot be seen whether {self._address} is taken: looking is not permitted.",
                    code="AccessDenied",
                    scope=Scope.DESTINATION,
                    hint="This server does not know conditional writes, so the program must look first: grant "
                    "s3:GetObject and s3:ListBucket, or set on_conflict to overwrite.",
                )
            )
        else:
            self.write()

    def taken(self, *, ours: bool) -> None:
        """The condition of the write did not hold.

        :param ours: an earlier attempt of this very upload may have stored the object.
        """
        self._turns += 1
        if self._turns > _MAXIMUM_TURNS:
            self.fail(ConflictError(f"{self._address} keeps changing under another writer.", hint=_conflict_hint()))
            return
        self.call(
            requests.head_object(self.key, self.path), lambda call: self._looked_after_conflict(call, ours=ours), LOOKED
        )

    def _looked_after_conflict(self, call: PendingRequest, *, ours: bool) -> None:
        if self.over:
            return
        if call.error is not None:
            self.fail(call.error)
        elif call.status == 404:
            # It was removed meanwhile.
            self.condition = UNLESS_THERE if self.condition.header else UNCONDITIONAL
            self.rewrite()
        elif call.status == 403:
            if self.options.on_conflict is OnConflict.OVERWRITE:
                self._replace()
                return
            self._cannot_examine()
        else:
            self._examine(call, ours=ours)

    def _cannot_examine(self) -> None:
        self.fail(
            ConflictError(
                f"{self._address} is taken, and it cannot be seen whether by the same content.",
                hint="Grant s3:GetObject so that the program can tell, or set on_conflict to overwrite or keep-both.",
            )
        )

    def _examine(self, call: PendingRequest, *, ours: bool) -> None:
        """Something is under the key; see whether it is our content."""
        headers = call.body.headers
        comparison, proof = compare(headers, self.digest(), etag_counts=self.etag_counts)
        if comparison is Comparison.UNKNOWN or (comparison is Comparison.SAME and proof < self.options.minimum_proof):
            self.on_crew(lambda: self._compare_bytes(headers, 0, ours=ours))
        elif comparison is Comparison.SAME:
            self._is_there(headers, proof, ours=ours)
        else:
            self._other_content(clean_etag(headers.get("etag", "")))

    def _is_there(self, headers: dict[str, str], proof: Proof, *, ours: bool) -> None:
        """The same content is under the key already."""
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
            )
        )

    def conclude(self, receipt: Receipt) -> None:
        """The object is there; whatever else is still to do comes before success."""
        self.succeed(receipt)

    def _compare_bytes(self, headers: dict[str, str], first: int, *, ours: bool) -> None:
        """Nothing in the headers tells: read the object and compare. On a thread of the crew, piece by piece."""
        size = self.source.size
        if first >= size:
            self._is_there(headers, Proof.CHECKSUM, ours=ours)
            return
        etag = clean_etag(headers.get("etag", ""))
        last = min(first + self.context.part_size, size) - 1
        room = self.room_to_compare(last - first + 1)

        def got(call: PendingRequest) -> None:
            if call.error is not None or call.status not in (200, 206) or self.over:
                self.context.budget.release(room)
            if self.over:
                return
            if call.error is not None:
                if call.error.retryable:
                    self.fail(call.error)
                else:
                    self._cannot_examine()
            elif call.status in _READ:
                self._cannot_examine()
            else:
                self.on_crew(lambda: compare_piece(call.body.body))

        def compare_piece(theirs: bytes) -> None:
            self.context.budget.release(room)
            if not self.start_reading():
                return
            try:
                mine = self.read_again(first, last)
            except StoreError as error:
                self.fail(error)
                return
            finally:
                self.stop_reading()
            if mine == theirs:
                self._compare_bytes(headers, last + 1, ours=ours)
            else:
                self._other_content(etag)

        request = requests.get_object(self.key, self.path, first=first, last=last, etag=etag)
        # Also if the upload is over by then: the call is cancelled at once, and its end gives the room back.
        self.context.budget.acquire(room, lambda: self.call(request, got, _READ))

    def room_to_compare(self, count: int) -> int:
        """Bytes of memory to wait for before so many bytes are compared."""
        return 2 * count

    def _other_content(self, etag: str) -> None:
        """Other content is under the key: what now is a matter of the configuration."""
        if self.replaces and etag == self.replaces and not self.derived:
            value = f'"{etag}"'
            if self.condition == Condition("if-match", value):
                # It is that object and the condition did not hold: Ceph 16 compares with the ETag without its quotes.
                value = etag
            knows = self.context.capabilities.conditional == "yes"
            self.condition = Condition("if-match", value) if knows else UNCONDITIONAL
            self.rewrite()
        elif self.options.on_conflict is OnConflict.OVERWRITE:
            self._replace()
        elif self.options.on_conflict is OnConflict.KEEP_BOTH and not self.derived:
            self.on_crew(self._derive_key)
        else:
            self.fail(
                ConflictError(f"{self._address} is taken by other content.", hint=_conflict_hint(), existing=etag)
            )

    def _replace(self) -> None:
        self.condition = UNCONDITIONAL
        self.rewrite()

    def _derive_key(self) -> None:
        if not self.start_reading():
            return
        try:
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
        self.condition = UNLESS_THERE
        self._looked = False
        was_probe, self._is_probe = self._is_probe, False
        if was_probe:
            self.context.capabilities.found("")
        self.begin()

    # Proof.

    def look_for_proof(self, receipt: Receipt) -> None:
        """The answer to the write proves too little, or names no ETag that lasts: see what a HEAD says."""

        def looked(call: PendingRequest) -> None:
            if self.over:
                return
            proven = receipt.proof >= self.options.minimum_proof and receipt.proof is not Proof.NONE
            if (call.error is not None or call.status != 200) and proven:
                self.conclude(receipt)
                return
            if call.error is not None and call.error.retryable:
                self.fail(call.error)
                return
            if call.error is not None or call.status != 200:
                self._not_proven(Proof.NONE, looking_failed=True)
                return
            headers = call.body.headers
            comparison, proof = compare(headers, self.digest(), etag_counts=self.etag_counts, just_written=True)
            if comparison is Comparison.DIFFERENT:
                self.fail(
                    ProofError(
                        f"{self._address} was accepted, but what is there now is not what was sent.",
                        hint="Another writer may use the same key; look at the object before trying again.",
                    )
                )
                return
            if comparison is Comparison.UNKNOWN and headers.get("content-length") == str(self.source.size):
                proof = Proof.SIZE
            proof = max(proof, receipt.proof)
            if proof < self.options.minimum_proof:
                self._not_proven(proof)
                return
            self.conclude(
                msgspec.structs.replace(
                    receipt,
                    proof=proof,
                    etag=clean_etag(headers.get("etag", "")) or receipt.etag,
                    version_id=receipt.version_id or headers.get("x-amz-version-id", ""),
                )
            )

        self.call(requests.head_object(self.key, self.path), looked, LOOKED)

    def _not_proven(self, proof: Proof, *, looking_failed: bool = False) -> None:
        wanted = self.options.minimum_proof
        given = {Proof.NONE: "nothing", Proof.SIZE: "only the length"}.get(proof, f"no more than {proof.label}")
        hint = f"minimum_proof is {wanted.label}"
        if looking_failed:
            hint = f"Grant s3:GetObject, so that the program can look at the object; {hint}"
        hint += "; set it to size if you trust this server with less." if wanted > Proof.SIZE else "."
        hint = hint[0].upper() + hint[1:] if looking_failed else hint
        self.fail(
            ProofError(f"The server accepted {self._address}, but its answer proves {given} of the bytes.", hint=hint)
        )


def _conflict_hint() -> str:
    return "The file is kept; remove or rename one of the two, or set on_conflict to keep-both or overwrite."
