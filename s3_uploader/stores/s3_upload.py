"""One upload to S3, whatever its size: its life, its conflicts, its end.

The steps of an upload run as callbacks, one after the other, on whatever thread brings the answer. Nothing here waits.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError

import msgspec

from s3_uploader.errors import ConflictError, ProofError, Scope, StoreError, UploadCancelled
from s3_uploader.model import OnConflict, Proof, Receipt
from s3_uploader.stores import s3_requests as requests
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.crew import ByteBudget, Crew
from s3_uploader.stores.keys import derived_key
from s3_uploader.stores.s3_ability import Abilities
from s3_uploader.stores.s3_caller import Call, Caller
from s3_uploader.stores.s3_proof import Comparison, Digest, clean_etag, compare
from s3_uploader.stores.s3_protocol import Request
from s3_uploader.stores.s3_requests import UNCONDITIONAL, UNLESS_THERE, Condition
from s3_uploader.stores.timer import Timer
from s3_uploader.text import shown_name

LOOKED = frozenset((403, 404))
_REFUSED = frozenset(range(300, 500)) - {408, 429}
_READ = LOOKED | {412, 416}
_FAILED_CONDITIONS = {"": frozenset[int](), "if-none-match": frozenset((412,)), "if-match": frozenset((404, 412))}
"""By condition: the statuses that say that it did not hold. ``If-Match`` on a key without an object is a 404."""
_MAXIMUM_TURNS = 6
"""So often an upload may find something new about its key before it gives up; two writers can chase each other."""


class Context(msgspec.Struct, kw_only=True):
    """What all uploads of a store share.

    :param address: the key as a person writes it.
    :param over: called with an upload whose future is done.
    """

    caller: Caller
    abilities: Abilities
    headers: requests.ObjectHeaders
    budget: ByteBudget
    crew: Crew
    timer: Timer
    tls: bool
    part_size: int
    address: Callable[[str], str]
    over: Callable[[Upload], None]
    clock: Callable[[], float] = time.monotonic


class Upload:
    """What single and multipart uploads have in common.

    ``write`` sends what there is to send under the present key and condition; ``rewrite`` does so again after the key
    was found taken; ``clean_up`` removes what a failed upload leaves behind.
    """

    __slots__ = (
        "_call", "_error", "_is_scout", "_lock", "_looked", "_reading", "_receipt", "_turns", "condition", "context",
        "deadline", "derived", "future", "key", "options", "path", "replaces", "requested_key", "source",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        key: str,
        source: Source,
        options: PutOptions,
        deadline: float,
        replaces: str,
        future: Future[Receipt],
    ) -> None:
        self.context = context
        self.requested_key = self.key = key
        self.path = requests.encode_key(key)
        self.source = source
        self.options = options
        self.deadline = deadline
        self.replaces = replaces
        self.future = future
        self.condition = UNLESS_THERE
        self.derived = False
        self._lock = threading.Lock()
        self._error: StoreError | None = None
        self._receipt: Receipt | None = None
        self._reading = 0
        self._turns = 0
        self._looked = False
        self._is_scout = False
        self._call: Call | None = None

    # To be provided.

    def write(self) -> None:
        """Send the content under ``key`` with ``condition``."""
        raise NotImplementedError

    def rewrite(self) -> None:
        """Send it once more with another condition, under the same key."""
        raise NotImplementedError

    def digest(self) -> Digest:
        """What is known of the content."""
        raise NotImplementedError

    def clean_up(self, done: Callable[[], None]) -> None:
        """Remove what was begun, then call ``done``."""
        done()

    def read_again(self, first: int, last: int) -> bytes:
        """Bytes of the content, both ends included. May block."""
        raise NotImplementedError

    def content_sha256(self) -> str:
        """SHA-256 of the whole content in hexadecimal. May block."""
        raise NotImplementedError

    @property
    def etag_counts(self) -> bool:
        """Whether an ETag that looks like another MD5 than ours is taken at its word."""
        return self.options.minimum_proof > Proof.SIZE

    # Life.

    @property
    def over(self) -> bool:
        """Whether the outcome is settled; nothing more is to be begun then."""
        return self._error is not None or self._receipt is not None

    def begin(self) -> None:
        """Set out: decide whether to look first, and write."""
        if self.over:
            return
        abilities = self.context.abilities
        if self.options.on_conflict is OnConflict.OVERWRITE and abilities.conditional != "yes":
            # Where replacing is wanted a condition only saves sending the same content twice.
            self.condition = UNLESS_THERE if abilities.conditional == "" else UNCONDITIONAL
            self.write()
            return
        scout = abilities.admit(self.begin)
        if scout is False:
            return
        self._is_scout = scout is True
        if self._is_scout or abilities.conditional != "yes":
            if abilities.conditional == "refused":
                self.condition = UNCONDITIONAL
            self._look_first()
        else:
            self.write()

    def call(
        self, request: Request, finished: Callable[[Call], None], expected: frozenset[int], *, cancels: bool = True
    ) -> None:
        """Send a request that belongs to this upload, the only one at the time."""
        call = self.context.caller.call(
            request, functools.partial(self.guard, finished), deadline=self.deadline, expected=expected
        )
        # One that is over already is not kept: it would hold the upload that holds it.
        self._call = None if call.over else call
        if cancels and isinstance(self._error, UploadCancelled):
            call.cancel(self._error)

    def on_crew(self, step: Callable[[], None]) -> None:
        """Have a step that may block done on a thread of the crew."""
        self.context.crew.do(functools.partial(self.guard, step))

    def guard(self, step: Callable[..., None], *arguments: object) -> None:
        """Do a step. What it raises, be it for want of memory, ends this upload and not the thread that it is on."""
        try:
            step(*arguments)
        except Exception as error:
            self.fail(
                StoreError(
                    f"The upload of {self._address} failed: {error!r}.",
                    code="Unexpected",
                    hint="This should not happen; please report it.",
                )
            )

    @property
    def failed_condition(self) -> frozenset[int]:
        """The statuses that say that the present condition did not hold."""
        return _FAILED_CONDITIONS[self.condition.header]

    def condition_failed(self, call: Call) -> None:
        """The condition of a write did not hold: something is there, or what was to be replaced is gone."""
        if call.status == 404:
            self.condition = UNLESS_THERE
            self.rewrite()
        else:
            self.taken(ours=call.attempts > 1)

    def cancel(self, reason: UploadCancelled) -> None:
        """Give the upload up."""
        # Before the upload ends, for then it lets go of its call.
        call = self._call
        self.fail(reason)
        if call is not None:
            call.cancel(reason)

    def succeed(self, receipt: Receipt) -> None:
        """The content is there and proven."""
        with self._lock:
            if self.over:
                return
            self._receipt = receipt
        self.context.caller.proven_useful = True
        self._settle()

    def fail(self, error: StoreError) -> None:
        """The upload is over without success."""
        with self._lock:
            if self.over:
                return
            self._error = error
        self.clean_up(self._cleaned_up)

    def _cleaned_up(self) -> None:
        with self._lock:
            if self._reading:
                return
            self._reading = -1
        self._settle()

    def abandon(self) -> None:
        """The store is gone: whatever is still under way, the future is done now."""
        with self._lock:
            if self._error is None and self._receipt is None:
                self._error = UploadCancelled("The upload was given up because the store was closed.")
            self._reading = -1
        if not self.future.done():
            with contextlib.suppress(InvalidStateError):
                self._settle()

    def start_reading(self) -> bool:
        """Tell that the source's descriptor is in use on another thread; ``False`` if it may not be used any more."""
        with self._lock:
            if self.over:
                return False
            self._reading += 1
            return True

    def stop_reading(self) -> None:
        """The descriptor is free again."""
        with self._lock:
            self._reading -= 1
            if self._error is None or self._reading:
                return
        self.clean_up(self._cleaned_up)

    def _settle(self) -> None:
        error, receipt = self._error, self._receipt
        self._call = None
        if self._is_scout:
            self._is_scout = False
            self.context.abilities.found("")
        self.context.over(self)
        if receipt is not None:
            self.future.set_result(receipt)
        else:
            self.future.set_exception(error)

    # Scouting: the first upload to an endpoint finds out whether conditional writes work there.

    @property
    def is_scout(self) -> bool:
        """Whether this upload is to find out what the endpoint does with a conditional write."""
        return self._is_scout

    def report(self, found: str) -> None:
        """Say what was found out: ``yes``, ``ignored``, ``refused`` or nothing."""
        if self._is_scout:
            self._is_scout = False
            self.context.abilities.found(found)  # type: ignore[arg-type]

    def condition_refused(self) -> None:
        """The server answered 501 to the condition: look and write without."""
        replacing = self.condition.header == "if-match"
        self.condition = UNCONDITIONAL
        if not replacing:
            self.report("refused")
            self.context.abilities.refuses()
        if replacing or self._looked or self.options.on_conflict is OnConflict.OVERWRITE:
            self.rewrite()
        else:
            self._look_first()

    # Conflicts.

    def _look_first(self) -> None:
        self._looked = True
        # The answer to a HEAD has no document that says why it was refused. The write gets one, if it may be tried.
        expected = LOOKED if self.context.abilities.conditional in ("ignored", "refused") else _REFUSED
        self.call(requests.head_object(self.key, self.path), self._looked_first, expected)

    def _looked_first(self, call: Call) -> None:
        if self.over:
            return
        if call.error is not None:
            self.fail(call.error)
        elif call.status == 200:
            self._examine(call, ours=False)
        elif call.status == 403 and self.context.abilities.conditional in ("ignored", "refused"):
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

    def _looked_after_conflict(self, call: Call, *, ours: bool) -> None:
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

    def _examine(self, call: Call, *, ours: bool) -> None:
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

        def got(call: Call) -> None:
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
            knows = self.context.abilities.conditional == "yes"
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
        scouting, self._is_scout = self._is_scout, False
        if scouting:
            self.context.abilities.found("")
        self.begin()

    # Proof.

    def look_for_proof(self, receipt: Receipt) -> None:
        """The answer to the write proves too little, or names no ETag that lasts: see what a HEAD says."""

        def looked(call: Call) -> None:
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
            comparison, proof = compare(headers, self.digest(), etag_counts=self.etag_counts)
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

    @property
    def _address(self) -> str:
        return shown_name(self.context.address(self.key))


def _conflict_hint() -> str:
    return "The file is kept; remove or rename one of the two, or set on_conflict to keep-both or overwrite."
