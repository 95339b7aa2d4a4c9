"""The faults of the fault server: a queue of lies and mishaps, each for one or more requests.

A fault waits in the queue until a request comes that it fits; each request takes the first that fits it. One that was
queued and never happened is an error of the test (`assert_all_used`), because such a test proved nothing. Several
faults for one request join with ``|``::

    server.faults.add(run_in_body(lambda: source.write_bytes(b"new"), after_bytes=1000) | wrong_etag())
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.servers.fault_checksums import ALGORITHMS, checksum
from tests.servers.fault_errors import error_answer, error_document
from tests.servers.fault_wire import Answer, HangUp, Request

WRITES = ("PutObject", "UploadPart")
"""The operations that carry file content."""

ANSWERED_WRITES = (*WRITES, "CompleteMultipartUpload")
"""The operations whose answers prove something about file content."""

ANY = None
"""Every operation."""

Moment = Literal["before_body", "in_body", "after_body", "before_answer"]
Action = Callable[[], object]


class Exchange:
    """One request while it is being answered, as the hooks of a fault see it."""

    def __init__(self, request: Request, script: FaultScript, stopping: threading.Event) -> None:
        self.request = request
        self.fault = script.take(request)
        self._script = script
        self._stopping = stopping
        self._in_body_ran = False
        self._counted = False

    def wait(self, seconds: float | None) -> None:
        """Wait so long, or with None until the server stops; hang up when it stops."""
        if self._stopping.wait(seconds):
            raise HangUp

    def progress(self, request: Request, received: int) -> int:
        """Serve the moments within the body: called with the bytes received, returns when to be called next."""
        fault = self.fault
        next_stop = sys.maxsize
        if fault is None:
            return next_stop
        if fault.in_body is not None and not self._in_body_ran:
            if received < fault.after_bytes:
                next_stop = fault.after_bytes
            else:
                self._in_body_ran = True
                fault.in_body(self)
        if fault.bytes_per_second is not None:
            due = request.started + received / fault.bytes_per_second
            self.wait(max(0.0, due - time.monotonic()))
            step = max(1, min(64 * 1024, int(fault.bytes_per_second / 20)))
            next_stop = min(next_stop, received + step)
        return next_stop

    def count(self) -> None:
        """Count the fault as one that happened, once, unless its moment within the body never came."""
        fault = self.fault
        if fault is not None and not self._counted and (fault.in_body is None or self._in_body_ran):
            self._counted = True
            self._script.count(fault)


@dataclass(slots=True, eq=False)
class Fault:
    """What is to go wrong with a request, and with which one.

    A request fits when its operation is among `operations` (None: any), and its key and part number are those named.
    `times` None means: every request that fits, for good.

    The hooks, in their order: `before_body` (before `100 Continue`: the client has sent no byte of the body), `early`
    (an answer instead of reading the body), `in_body` (after exactly `after_bytes` bytes of the body were taken from
    the socket), `after_body` (nothing is stored yet), `instead` (an answer instead of the operation), `before_answer`
    (the operation is done). Each may raise `HangUp`.
    """

    name: str
    operations: tuple[str, ...] | None = WRITES
    key: str | None = None
    part_number: int | None = None
    times: int | None = 1
    before_body: Callable[[Exchange], None] | None = None
    early: Callable[[Exchange], Answer] | None = None
    in_body: Callable[[Exchange], None] | None = None
    after_bytes: int = 0
    bytes_per_second: float | None = None
    after_body: Callable[[Exchange], None] | None = None
    instead: Callable[[Exchange], Answer] | None = None
    before_answer: Callable[[Exchange, Answer], Answer] | None = None
    taken: int = 0
    happened: int = 0

    def fits(self, request: Request) -> bool:
        """Tell whether the fault is for this request."""
        return (
            (self.operations is None or request.operation in self.operations)
            and self.key in (None, request.key)
            and self.part_number in (None, request.part_number)
            and (self.times is None or self.taken < self.times)
        )

    def only(
        self,
        *,
        operations: tuple[str, ...] | str | None = WRITES,
        key: str | None = None,
        part_number: int | None = None,
        times: int | None = 1,
    ) -> Fault:
        """Return the same fault for other requests: ``wrong_etag().only(operations="UploadPart", part_number=2)``."""
        return dataclasses.replace(
            self,
            operations=(operations,) if isinstance(operations, str) else operations,
            key=key,
            part_number=part_number,
            times=times,
        )

    def repeated(self, times: int | None = None) -> Fault:
        """Return the same fault for so many requests; None: for every one."""
        return dataclasses.replace(self, times=times)

    def __or__(self, other: Fault) -> Fault:
        """Join two faults for one request, one that fits the first; what both do at one moment is done in order.

        Raises ValueError when both want to answer, or both to act within the body.
        """
        for hook in ("early", "in_body", "instead", "bytes_per_second"):
            if getattr(self, hook) is not None and getattr(other, hook) is not None:
                raise ValueError(f"{self.name} and {other.name} cannot be joined: both set {hook}")
        return dataclasses.replace(
            self,
            name=f"{self.name} and {other.name}",
            before_body=_one_after_the_other(self.before_body, other.before_body),
            early=self.early or other.early,
            in_body=self.in_body or other.in_body,
            after_bytes=self.after_bytes if self.in_body is not None else other.after_bytes,
            bytes_per_second=self.bytes_per_second or other.bytes_per_second,
            after_body=_one_after_the_other(self.after_body, other.after_body),
            instead=self.instead or other.instead,
            before_answer=_one_answer_after_the_other(self.before_answer, other.before_answer),
        )


class FaultScript:
    """The queue of one server; safe to use while the server works."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._errors: list[BaseException] = []

    def add(self, *faults: Fault) -> None:
        """Queue faults; a request takes the first that fits it."""
        with self._lock:
            self._faults += faults

    def clear(self) -> None:
        """Forget every fault, used or not."""
        with self._lock:
            self._faults.clear()
            self._errors.clear()

    def take(self, request: Request) -> Fault | None:
        """Return the fault for a request."""
        with self._lock:
            for fault in self._faults:
                if fault.fits(request):
                    fault.taken += 1
                    return fault
        return None

    def count(self, fault: Fault) -> None:
        """Note that a fault happened."""
        with self._lock:
            fault.happened += 1

    def failed(self, error: BaseException) -> None:
        """Note that a hook of a test raised."""
        with self._lock:
            self._errors.append(error)

    def unused(self) -> list[str]:
        """Return what was queued and did not happen, one sentence each."""
        with self._lock:
            lines = []
            for fault in self._faults:
                wanted = 1 if fault.times is None else fault.times
                if fault.happened < wanted:
                    line = f"{fault.name}: happened {fault.happened} of {wanted} times"
                    if fault.taken > fault.happened:
                        line += f" (a body ended before byte {fault.after_bytes}, or the request still runs)"
                    lines.append(line)
            return lines

    def assert_all_used(self) -> None:
        """Raise what a hook of the test raised, else AssertionError when a fault was queued and did not happen."""
        with self._lock:
            if self._errors:
                raise self._errors[0]
        if unused := self.unused():
            raise AssertionError("faults that were queued and did not happen: " + "; ".join(unused))


def run_before_body(action: Action) -> Fault:
    """Call the action when the headers are there and the client was not yet told to send the body."""
    return Fault(name="run before the body", before_body=lambda _: _call(action))


def run_in_body(action: Action, *, after_bytes: int, bytes_per_second: float | None = None) -> Fault:
    """Call the action when exactly so many bytes of the body were read from the socket.

    What the client's send buffer and the server's receive buffer hold was read from the file by then: see
    `small_buffers` of `FaultServer`. A body of a few KiB is always sent as a whole; for such files `run_before_body` is
    the moment at which a client that waits for `100 Continue` has sent nothing.
    """
    return Fault(
        name=f"run after {after_bytes} bytes of the body",
        in_body=lambda _: _call(action),
        after_bytes=after_bytes,
        bytes_per_second=bytes_per_second,
    )


def run_after_body(action: Action) -> Fault:
    """Call the action when the whole body is there and nothing is stored yet: the place for a race about the key."""
    return Fault(name="run after the body", operations=ANSWERED_WRITES, after_body=lambda _: _call(action))


def run_before_answer(action: Action) -> Fault:
    """Call the action when the object is stored and the answer is not yet sent."""

    def before_answer(_: Exchange, answer: Answer) -> Answer:
        _call(action)
        return answer

    return Fault(name="run before the answer", operations=ANSWERED_WRITES, before_answer=before_answer)


def wrong_etag(etag: str | None = None) -> Fault:
    """Answer success with the MD5 of something else; the object is stored as it came."""

    def before_answer(_: Exchange, answer: Answer) -> Answer:
        return _with_etag(answer, etag or secrets.token_hex(16))

    return Fault(name="wrong ETag", operations=ANSWERED_WRITES, before_answer=before_answer)


def wrong_checksum(algorithm: str | None = None) -> Fault:
    """Answer success with a checksum that is not the object's.

    Every checksum of the answer is replaced. When it has none, one is added: for the algorithm given, else for the one
    that the request named, else for CRC32.
    """

    def before_answer(exchange: Exchange, answer: Answer) -> Answer:
        return _with_wrong_checksum(exchange.request, answer, algorithm)

    return Fault(name="wrong checksum", operations=ANSWERED_WRITES, before_answer=before_answer)


def no_proof(etag: str | None = None) -> Fault:
    """Answer success without any checksum and with an ETag that is no MD5."""

    def before_answer(_: Exchange, answer: Answer) -> Answer:
        headers = {name: value for name, value in answer.headers.items() if not _is_checksum(name)}
        body = re.sub(rb"<(Checksum\w+)>[^<]*</\1>", b"", answer.body)
        bare = dataclasses.replace(answer, headers=headers, body=body)
        return _with_etag(bare, etag or f"0x{secrets.token_hex(8).upper()}")

    return Fault(name="no proof", operations=ANSWERED_WRITES, before_answer=before_answer)


def error_in_success(code: str = "InternalError", *, stored: bool = False) -> Fault:
    """Answer 200 with an error document as the body, as CompleteMultipartUpload does.

    The upload is not completed, unless `stored`.
    """
    answer = Answer(headers={"Content-Type": "application/xml"}, body=error_document(code))
    return Fault(
        name=f"{code} in a 200",
        operations=("CompleteMultipartUpload",),
        instead=None if stored else lambda _: dataclasses.replace(answer),
        before_answer=(lambda _, __: dataclasses.replace(answer)) if stored else None,
    )


def error(
    code: str,
    *,
    status: int | None = None,
    message: str | None = None,
    headers: dict[str, str] | None = None,
    early: bool = False,
    stored: bool = False,
) -> Fault:
    """Answer an error of `fault_errors.ERRORS`; fits every operation.

    Nothing is stored, unless `stored`. With `early` the answer comes before the body is read and the connection is
    closed after it, as real servers do with wrong credentials.
    """

    def answer(_: Exchange) -> Answer:
        return error_answer(code, status=status, message=message, headers=headers)

    return Fault(
        name=code + (" after storing" if stored else ""),
        operations=ANSWERED_WRITES if stored else ANY,
        early=answer if early and not stored else None,
        instead=answer if not early and not stored else None,
        before_answer=(lambda exchange, _: answer(exchange)) if stored else None,
    )


def error_after_storing(code: str = "InternalError") -> Fault:
    """Store the object and answer an error all the same."""
    return error(code, stored=True)


def slow_down(retry_after: int | None = 1) -> Fault:
    """Answer 503 SlowDown with Retry-After in seconds; fits every operation."""
    return error("SlowDown", headers=None if retry_after is None else {"Retry-After": str(retry_after)})


def hang_up(at: Moment = "before_answer", *, reset: bool = False, after_bytes: int = 0) -> Fault:
    """Close the connection; with `reset` the client sees ECONNRESET.

    Only `before_answer` comes after the object was stored.
    """

    def close(_: Exchange) -> None:
        raise HangUp(reset=reset)

    return _at(at, close, name=f"hang up at {at}", after_bytes=after_bytes)


def hang(at: Moment = "before_answer", *, seconds: float | None = None, after_bytes: int = 0) -> Fault:
    """Do nothing for so long, and with None until the server stops; then go on as if nothing had been."""

    def wait(exchange: Exchange) -> None:
        # Counted before it waits: the client gives up long before this ends.
        exchange.count()
        exchange.wait(seconds)

    return _at(at, wait, name=f"hang at {at}", after_bytes=after_bytes)


def slow_body(bytes_per_second: float) -> Fault:
    """Read the body no faster than this."""
    return Fault(name="slow body", bytes_per_second=bytes_per_second)


def cut_answer(after_bytes: int = 20) -> Fault:
    """Store the object, send so many bytes of the answer (its head included) and close."""

    def before_answer(_: Exchange, answer: Answer) -> Answer:
        return dataclasses.replace(answer, cut_after=after_bytes)

    return Fault(
        name=f"cut the answer after {after_bytes} bytes", operations=ANSWERED_WRITES, before_answer=before_answer
    )


def lose_object(etag: str | None = None) -> Fault:
    """Answer 200 with the right ETag and store nothing: the lie that no answer gives away."""

    def instead(exchange: Exchange) -> Answer:
        return Answer(headers={"ETag": f'"{etag or exchange.request.body_md5}"'})

    return Fault(name="lose the object", instead=instead)


def _one_after_the_other(
    first: Callable[[Exchange], None] | None, second: Callable[[Exchange], None] | None
) -> Callable[[Exchange], None] | None:
    if first is None or second is None:
        return first or second

    def both(exchange: Exchange) -> None:
        first(exchange)
        second(exchange)

    return both


def _one_answer_after_the_other(
    first: Callable[[Exchange, Answer], Answer] | None, second: Callable[[Exchange, Answer], Answer] | None
) -> Callable[[Exchange, Answer], Answer] | None:
    if first is None or second is None:
        return first or second
    return lambda exchange, answer: second(exchange, first(exchange, answer))


def _at(at: Moment, act: Callable[[Exchange], None], *, name: str, after_bytes: int) -> Fault:
    if at == "before_body":
        return Fault(name=name, before_body=act)
    if at == "in_body":
        return Fault(name=name, in_body=act, after_bytes=after_bytes)
    if at == "after_body":
        return Fault(name=name, after_body=act)

    def before_answer(exchange: Exchange, answer: Answer) -> Answer:
        act(exchange)
        return answer

    return Fault(name=name, operations=ANSWERED_WRITES, before_answer=before_answer)


class ActionFailed(Exception):
    """An action of a test raised; the cause tells what."""


def _call(action: Action) -> None:
    try:
        action()
    except Exception as cause:
        raise ActionFailed(f"{action!r} raised {cause!r}") from cause


def _is_checksum(name: str) -> bool:
    return name.lower().startswith("x-amz-checksum-")


def _with_etag(answer: Answer, etag: str) -> Answer:
    headers = dict(answer.headers)
    if "ETag" in headers:
        headers["ETag"] = f'"{etag}"'
    body = re.sub(rb"<ETag>[^<]*</ETag>", f"<ETag>&quot;{etag}&quot;</ETag>".encode(), answer.body)
    return dataclasses.replace(answer, headers=headers, body=body)


def _with_wrong_checksum(request: Request, answer: Answer, algorithm: str | None) -> Answer:
    noise = secrets.token_bytes(8)
    headers = dict(answer.headers)
    body = answer.body
    found = False
    for each in ALGORITHMS:
        wrong = checksum(each, noise)
        if f"x-amz-checksum-{each}" in headers:
            headers[f"x-amz-checksum-{each}"] = wrong
            found = True
        element = f"Checksum{each.upper()}".encode()
        body, count = re.subn(
            b"<%b>[^<]*</%b>" % (element, element), b"<%b>%b</%b>" % (element, wrong.encode(), element), body
        )
        found = found or count > 0
    if not found:
        named = [each for each in ALGORITHMS if f"x-amz-checksum-{each}" in request.headers | request.trailers]
        chosen = algorithm or (named[0] if named else "crc32")
        if request.operation == "CompleteMultipartUpload":
            element = f"Checksum{chosen.upper()}".encode()
            added = b"<%b>%b</%b></CompleteMultipartUploadResult>" % (
                element,
                checksum(chosen, noise).encode(),
                element,
            )
            body = body.replace(b"</CompleteMultipartUploadResult>", added)
        else:
            headers[f"x-amz-checksum-{chosen}"] = checksum(chosen, noise)
    return dataclasses.replace(answer, headers=headers, body=body)
