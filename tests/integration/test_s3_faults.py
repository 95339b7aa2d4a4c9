"""Uploads while server and network fail: each ends proven or with an error, in time; nothing is lost or replaced."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from s3_uploader.core.errors import ConflictError, Scope, StoreError, UploadCancelled
from s3_uploader.core.model import OnConflict, Proof
from s3_uploader.stores.base import PendingReceipt
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.s3.engines.native import make_engine
from s3_uploader.stores.s3.store import S3Store
from tests.contracts.store_contract import pattern
from tests.integration.s3_support import (
    MEBIBYTE,
    PART,
    PATIENCE,
    Known,
    Station,
    eventually,
    nothing_leaks,
    pending_uploads,
)
from tests.servers.base import S3Endpoint
from tests.servers.dialects import AWS, NEW, OLD, WEAK, Dialect
from tests.servers.fault_script import (
    Fault,
    cut_answer,
    error,
    error_after_storing,
    error_in_success,
    hang,
    hang_up,
    lose_object,
    no_proof,
    run_after_body,
    run_before_answer,
    slow_body,
    slow_down,
    wrong_checksum,
    wrong_etag,
)
from tests.servers.fixtures import MakeFaultProxy, MakeFaultServer

pytestmark = pytest.mark.rotated("real_s3", "server", "dialect")

SIZES = (100, PART + 100)


def outcomes(futures: dict[str, PendingReceipt]) -> dict[str, StoreError | None]:
    """How each upload ended; what is no StoreError is a bug."""
    found: dict[str, StoreError | None] = {}
    for key, future in futures.items():
        exception = future.exception(PATIENCE)
        assert exception is None or isinstance(exception, StoreError), repr(exception)
        found[key] = exception
    return found


class TestFaultProxy:
    """A real server behind a proxy that makes faults."""

    def test_slow_down(
        self, real_s3: S3Endpoint, engine: str, station: Station, make_fault_proxy: MakeFaultProxy
    ) -> None:
        """A server that asks for a pause gets it, and then the file."""
        proxy = make_fault_proxy(real_s3)
        store = station.store(proxy.endpoint, engine)
        station.put(store, "first", b"x")
        proxy.slow_down(retry_after=1)
        began = time.monotonic()
        futures = {f"key-{number}": station.begin(store, f"key-{number}", pattern(100)) for number in range(3)}
        assert eventually(lambda: proxy.refusals() >= len(futures))
        proxy.clear()
        assert outcomes(futures) == dict.fromkeys(futures)
        assert 1.0 <= time.monotonic() - began < 10

    def test_slow_down_for_good(
        self, rclone_s3: S3Endpoint, engine: str, station: Station, make_fault_proxy: MakeFaultProxy
    ) -> None:
        """A server that never has time is given up after a bounded number of tries."""
        proxy = make_fault_proxy(rclone_s3)
        proxy.slow_down(retry_after=0)
        store = station.store(proxy.endpoint, engine, retry=RetryPolicy(max_attempts=3, base_pause=0.02, max_pause=0.1))
        error = station.error(store, "key", b"content")
        assert error.code in ("SlowDown", "503")  # HEAD has no body that could tell.
        assert error.retryable
        assert rclone_s3.keys() == []

    @pytest.mark.parametrize("size", SIZES)
    def test_stored_and_answered_with_an_error(
        self, real_s3: S3Endpoint, engine: str, station: Station, make_fault_proxy: MakeFaultProxy, size: int
    ) -> None:
        """An object that was stored although the server said 500 is found to be our own, and not sent twice over."""
        proxy = make_fault_proxy(real_s3)
        patient = RetryPolicy(max_attempts=40, base_pause=0.05, max_pause=0.3)
        store = station.store(proxy.endpoint, engine, retry=patient)
        station.put(store, "first", b"x")
        proxy.fail_after_storing()
        future = station.begin(store, "key", pattern(size))
        assert eventually(lambda: proxy.refusals() > 0)
        proxy.clear()
        receipt = future.result(PATIENCE)
        assert receipt.proof >= Proof.MD5
        assert real_s3.objects() == {"first": b"x", "key": pattern(size)}
        # An upload in parts whose beginning was answered with 500 stays: nobody has told us its name.

    # One server is enough for the other engine.
    @pytest.mark.parametrize(
        ("real_s3", "engine"),
        [("rclone", "native"), ("swift", "native"), ("ceph", "native"), ("ceph", "boto3")],
        indirect=["real_s3"],
    )
    def test_faults_of_all_kinds(
        self, real_s3: S3Endpoint, engine: str, station: Station, make_fault_proxy: MakeFaultProxy
    ) -> None:
        """In a storm every upload ends in time, proven or with an error; what is proven is there, byte for byte."""
        chance = random.Random(20201129)
        proxy = make_fault_proxy(real_s3)
        store = station.store(
            proxy.endpoint,
            engine,
            retry=RetryPolicy(max_attempts=4, base_pause=0.02, max_pause=0.2),
            max_concurrency=16,
        )
        station.put(store, "first", b"x")
        real_s3.client().put_object(Bucket=real_s3.bucket, Key="theirs", Body=b"theirs")
        proxy.slow_down(0.1, retry_after=0)
        proxy.close(0.1)
        proxy.drop(0.05)
        proxy.fail_after_storing(0.1)
        proxy.slow(100, 0.1)
        began = time.monotonic()
        contents = {
            f"key-{number}": pattern(chance.choice((0, 10, 4000, 100_000)), str(number)) for number in range(60)
        }
        contents["large"] = pattern(2 * PART + 10)
        futures = {key: station.begin(store, key, content, seconds=20) for key, content in contents.items()}
        futures["theirs"] = station.begin(store, "theirs", b"ours", seconds=20)
        for _ in range(3):
            time.sleep(0.1)
            proxy.cut_connections()
        found = outcomes(futures)
        assert time.monotonic() - began < 26
        proxy.clear()
        objects = real_s3.objects()
        assert objects.pop("theirs") == b"theirs"
        assert found.pop("theirs") is not None
        assert list(found.values()).count(None) > 30
        for key, failed in found.items():
            there = objects.get(key)
            assert there == contents[key] or (there is None and failed is not None), (key, failed)
            assert not isinstance(failed, ConflictError), (key, failed)
        # The next run finishes the work.
        again = {key: station.begin(store, key, contents[key]) for key in found}
        assert outcomes(again) == dict.fromkeys(found)

    def test_down_and_up_again(
        self, real_s3: S3Endpoint, engine: str, station: Station, make_fault_proxy: MakeFaultProxy
    ) -> None:
        """A server that was away for a moment costs nothing; the connections from before are not in the way."""
        proxy = make_fault_proxy(real_s3)
        store = station.store(proxy.endpoint, engine, retry=RetryPolicy(max_attempts=20, base_pause=0.1, max_pause=0.5))
        for number in range(5):
            station.put(store, f"before-{number}", b"x")
        proxy.go_down()
        futures = {f"during-{number}": station.begin(store, f"during-{number}", b"x") for number in range(10)}
        time.sleep(0.7)
        proxy.come_up()
        assert outcomes(futures) == dict.fromkeys(futures)

    def test_down_for_good(
        self, rclone_s3: S3Endpoint, engine: str, station: Station, make_fault_proxy: MakeFaultProxy
    ) -> None:
        """A server that is gone ends every upload within seconds, as everybody's problem."""
        proxy = make_fault_proxy(rclone_s3)
        store = station.store(proxy.endpoint, engine)
        station.put(store, "before", b"x")
        proxy.go_down()
        began = time.monotonic()
        futures = {f"key-{number}": station.begin(store, f"key-{number}", b"x") for number in range(30)}
        for failed in outcomes(futures).values():
            assert failed is not None
            assert failed.scope is Scope.DESTINATION
        assert time.monotonic() - began < 15

    @pytest.mark.parametrize("size", SIZES)
    def test_a_hang_ends_at_the_deadline(
        self, rclone_s3: S3Endpoint, engine: str, station: Station, make_fault_proxy: MakeFaultProxy, size: int
    ) -> None:
        """A server that does not answer is given up when the upload's time is over, and the next upload works."""
        proxy = make_fault_proxy(rclone_s3)
        store = station.store(proxy.endpoint, engine)
        station.put(store, "first", b"x")
        proxy.slow(60_000)
        began = time.monotonic()
        error = station.error(store, "key", pattern(size), seconds=1.0)
        assert isinstance(error, UploadCancelled)
        assert error.code == "DeadlineExceeded"
        assert time.monotonic() - began < 5
        proxy.clear()
        assert station.put(store, "next", pattern(size)).proof >= Proof.MD5

    @pytest.mark.parametrize("engine", ["native"])
    def test_nothing_leaks_in_a_storm(
        self, rclone_s3: S3Endpoint, engine: str, make_fault_proxy: MakeFaultProxy
    ) -> None:
        """Lost and hanging connections cost no descriptor for longer than they are of use."""
        proxy = make_fault_proxy(rclone_s3)
        with Station() as station:
            station.put(station.store(proxy.endpoint, engine), "first", b"x")
        with nothing_leaks():
            with Station() as station:
                store = station.store(proxy.endpoint, engine)
                proxy.close(0.2)
                proxy.drop(0.1)
                proxy.slow(60_000, 0.1)
                futures = {
                    f"key-{number}": station.begin(store, f"key-{number}", b"x", seconds=2.0) for number in range(60)
                }
                outcomes(futures)
            proxy.clear()


LIES: dict[str, Callable[[], Fault]] = {
    "wrong ETag": wrong_etag,
    "wrong checksum": wrong_checksum,
    "no proof": no_proof,
    "lost": lose_object,
    "500 after storing": error_after_storing,
    "reset after storing": lambda: hang_up(reset=True),
    "closed after storing": hang_up,
    "closed before storing": lambda: hang_up("after_body"),
    "closed within the body": lambda: hang_up("in_body", after_bytes=50),
    "answer cut": cut_answer,
    "503": lambda: slow_down(0),
    "503 early": lambda: error("SlowDown", early=True),
    "429": lambda: error("TooManyRequests"),
    "unknown 5xx": lambda: error("InternalError", status=599),
    "BadDigest": lambda: error("BadDigest"),
    "RequestTimeout": lambda: error("RequestTimeout"),
    "ConditionalRequestConflict": lambda: error("ConditionalRequestConflict", status=409),
}


class TestLies:
    """A server that fails or lies once, or for good, in each dialect."""

    # What an answer means does not depend on the engine.
    @pytest.mark.parametrize(
        ("engine", "dialect"),
        [("native", AWS), ("native", NEW), ("native", OLD), ("native", WEAK), ("boto3", AWS), ("boto3", OLD)],
        ids=lambda value: value if isinstance(value, str) else value.name,
    )
    @pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
    def test_a_receipt_is_never_a_lie(
        self,
        engine: str,
        make_fault_server: MakeFaultServer,
        dialect: Dialect,
        times: int | None,
        effort: Callable[[int, int], int],
    ) -> None:
        """Whatever goes wrong once or always with a write, a receipt means that the object is there."""
        every = effort(4, 1)  # in parts only some: test_what_passes_is_retried has most of them in parts too
        for number, (name, fault) in enumerate(LIES.items()):
            for size in SIZES if times == 1 and number % every == 0 else SIZES[:1]:
                with Station() as station:
                    self._lie(station, make_fault_server, engine, dialect, name, fault(), times, size)

    def _lie(
        self,
        station: Station,
        make_fault_server: MakeFaultServer,
        engine: str,
        dialect: Dialect,
        name: str,
        fault: Fault,
        times: int | None,
        size: int,
    ) -> None:
        server = make_fault_server(dialect=dialect)
        store = station.store(server.endpoint, engine, memory=Known(), retry=_FAST)
        server.faults.add(fault.only(operations=("PutObject", "UploadPart"), times=times))
        content = pattern(size)
        began = time.monotonic()
        exception = station.begin(store, "key", content, seconds=20).exception(PATIENCE)
        assert time.monotonic() - began < 20, name
        where = (dialect.name, name, size, exception)
        if exception is None:
            if name == "lost":
                return  # The lie that no answer gives away.
            assert server.objects() == {"key": content}, where
        else:
            assert isinstance(exception, StoreError), where
            assert server.objects().get("key") in (None, content), where
        assert eventually(lambda: server.pending_uploads == []), where
        assert server.replacements == [], where
        if times == 1 and name not in ("wrong ETag", "wrong checksum", "no proof", "lost"):
            assert exception is None, where
        # What comes after finds the store as it was.
        server.faults.clear()
        assert station.put(store, "next", b"x").proof >= Proof.MD5

    @pytest.mark.parametrize("stored", [False, True])
    def test_an_error_in_a_success(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, *, stored: bool
    ) -> None:
        """An error document in a 200 to the completion is an error; the completion is tried again, and proven."""
        for dialect in (AWS, OLD):
            server = make_fault_server(dialect=dialect)
            store = station.store(server.endpoint, engine, memory=Known())
            server.faults.add(error_in_success(stored=stored))
            content = pattern(PART + 1)
            assert station.put(store, "key", content).proof >= Proof.MD5
            assert server.objects() == {"key": content}
            assert server.pending_uploads == []

    def test_parts_are_removed_after_a_failure(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """An upload in parts that fails for good in the middle is aborted, once none of its parts is under way."""
        server = make_fault_server()
        store = station.store(server.endpoint, engine, memory=Known(), retry=_FAST)
        server.faults.add(error("InternalError").only(operations="UploadPart", part_number=3, times=None))
        error_found = station.error(store, "key", pattern(5 * PART))
        assert error_found.code == "InternalError"
        assert server.pending_uploads == []
        assert server.objects() == {}
        parts_over = max(request.ended for request in server.requests_of("UploadPart"))
        aborts = server.requests_of("AbortMultipartUpload")
        assert len(aborts) == 1
        assert aborts[0].started >= parts_over

    def test_parts_that_may_not_be_removed_are_reported_once(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """They cost money for as long as nobody knows of them."""
        server = make_fault_server()
        store = station.store(server.endpoint, engine, memory=Known(), retry=_FAST)
        server.faults.add(
            error("InternalError").only(operations="UploadPart", part_number=2, times=None),
            error("AccessDenied").only(operations="AbortMultipartUpload", times=None),
        )
        for key in ("one", "two"):
            assert station.error(store, key, pattern(2 * PART)).code == "InternalError"
        assert len(server.pending_uploads) == 2
        warnings = [text for level, text in station.notices if level == "warning" and "AbortMultipartUpload" in text]
        assert len(warnings) == 1
        assert "one could not be removed" in warnings[0]
        assert "(AccessDenied)" in warnings[0]

    def test_an_upload_that_the_server_forgot(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """An upload in parts that somebody else aborted, a lifecycle rule for one, is begun anew."""
        server = make_fault_server()
        store = station.store(server.endpoint, engine, memory=Known())

        def forget() -> None:
            with server.store.lock:
                server.store.uploads.clear()

        server.faults.add(run_after_body(forget).only(operations="UploadPart", part_number=2))
        content = pattern(3 * PART)
        assert station.put(store, "key", content).proof >= Proof.MD5
        assert server.objects() == {"key": content}
        assert server.pending_uploads == []

    @pytest.mark.parametrize("on_conflict", OnConflict)
    def test_a_conflict_at_the_completion(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, on_conflict: OnConflict
    ) -> None:
        """Who takes the key while the parts are under way keeps it, or not, as on_conflict says; no part stays."""
        server = make_fault_server()
        store = station.store(server.endpoint, engine, memory=Known())
        server.faults.add(run_before_answer(lambda: server.put("key.dat", b"theirs")).only(operations="UploadPart"))
        content = pattern(2 * PART)
        future = station.begin(store, "key.dat", content, on_conflict=on_conflict)
        exception = future.exception(PATIENCE)
        assert server.pending_uploads == []
        if on_conflict is OnConflict.FAIL:
            assert isinstance(exception, ConflictError)
            assert exception.existing == hashlib.md5(b"theirs").hexdigest()
            assert server.objects() == {"key.dat": b"theirs"}
        elif on_conflict is OnConflict.OVERWRITE:
            assert future.result().key == "key.dat"
            assert server.objects() == {"key.dat": content}
        else:
            assert server.objects() == {"key.dat": b"theirs", future.result().key: content}

    def test_an_abort_without_an_answer(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """An upload whose time is over does not wait for a server that is silent when it is told so."""
        server = make_fault_server()
        store = station.store(server.endpoint, engine, memory=Known())
        server.faults.add(hang().only(operations="UploadPart"), hang().only(operations="AbortMultipartUpload"))
        began = time.monotonic()
        exception = station.begin(store, "key", pattern(2 * PART), seconds=2).exception(PATIENCE)
        assert isinstance(exception, UploadCancelled)
        assert time.monotonic() - began < 12

    def test_somebody_else_s_object_is_not_ours_after_a_lost_answer(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """When an answer is lost and the key is taken by others afterwards, that is a conflict and no success."""
        server = make_fault_server()
        store = station.store(server.endpoint, engine, memory=Known())

        def take() -> None:
            server.put("key", b"theirs")

        server.faults.add(run_after_body(take).only(operations="PutObject") | error("InternalError", stored=False))
        assert isinstance(station.error(store, "key", b"ours"), ConflictError)

    def test_the_age_of_what_is_in_the_way(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """A conflict tells how old the object in the way is, by which an outdated one is told from a new delivery."""
        server = make_fault_server()
        server.put("key", b"theirs")
        conflict = station.error(station.store(server.endpoint, engine), "key", b"ours")
        assert isinstance(conflict, ConflictError)
        assert conflict.age is not None
        assert -2 <= conflict.age < 60
        assert server.objects() == {"key": b"theirs"}


_FAST = RetryPolicy(max_attempts=3, base_pause=0.01, max_pause=0.05)

_KILLED = """
import sys
sys.path.insert(0, {root!r})
from tests.contracts.store_contract import pattern
from tests.integration.s3_support import PART, Station
from tests.servers.base import S3Endpoint
with Station() as station:
    store = station.store(S3Endpoint(**{endpoint!r}), {engine!r})
    station.put(store, "first", b"x")
    print("ready", flush=True)
    station.put(store, "large", pattern(8 * PART))
    print("done", flush=True)
"""


class TestCrashes:
    @pytest.mark.parametrize("server", ["ceph", "swift"])
    def test_killed_between_parts(
        self, request: pytest.FixtureRequest, server: str, engine: str, station: Station
    ) -> None:
        """Killed in the middle of its parts an upload is not visible, and the next run stores the whole file."""
        real = request.getfixturevalue(f"{server}_s3")
        assert isinstance(real, S3Endpoint)
        names = ("endpoint_url", "access_key", "secret_key", "region", "bucket")
        endpoint = {name: getattr(real, name) for name in names}
        root = str(Path(__file__).parents[2])
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED.format(root=root, endpoint=endpoint, engine=engine)],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert eventually(lambda: pending_uploads(real) != [] or process.poll() is not None)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        there = real.objects().get("large")
        assert there in (None, pattern(8 * PART))
        store = station.store(real, engine)
        receipt = station.put(store, "large", pattern(8 * PART))
        assert receipt.already_there == (there is not None)
        assert real.read("large") == pattern(8 * PART)

    def test_two_processes_with_the_same_files(self, real_s3: S3Endpoint, engine: str, station: Station) -> None:
        """Two uploaders with the same content under the same keys do not disturb each other."""
        stores: list[S3Store] = [station.store(real_s3, engine) for _ in range(2)]
        for number, store in enumerate(stores):
            station.put(store, f"warm-up-{number}", b"x")
        together = threading.Barrier(2)
        found: list[dict[str, PendingReceipt]] = [{}, {}]

        def run(number: int) -> None:
            together.wait()
            for index in range(20):
                found[number][f"key-{index}"] = station.begin(stores[number], f"key-{index}", pattern(1000, str(index)))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for futures in found:
            assert outcomes(futures) == dict.fromkeys(futures)
        assert {key: content for key, content in real_s3.objects().items() if key.startswith("key")} == {
            f"key-{index}": pattern(1000, str(index)) for index in range(20)
        }


class TestPace:
    @pytest.mark.timing
    @pytest.mark.exhaustive  # test_s3_bandwidth.py promises the same of small files and a large one
    @pytest.mark.rotated("size")
    @pytest.mark.parametrize("engine", ["native", "boto3"])
    @pytest.mark.parametrize("size", [20_000, 400_000])
    def test_max_bandwidth_is_held(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, size: int
    ) -> None:
        """Over ten seconds the bytes of all uploads together come within a tenth of max_bandwidth."""
        server = make_fault_server()
        rate = 400_000
        store = station.store(server.endpoint, engine, memory=Known(), max_bandwidth=rate)
        count = 10 * rate // size
        began = time.monotonic()
        futures = [station.begin(store, f"key-{number}", pattern(size, str(number))) for number in range(count)]
        assert [future.exception(PATIENCE) for future in futures] == [None] * count
        assert 9.0 < time.monotonic() - began < 11.0

    @pytest.mark.parametrize("engine", ["native", "boto3"])
    def test_waiting_for_one_s_turn_is_no_silence(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer
    ) -> None:
        """With a low max_bandwidth and many uploads at once all of them get on, and none is sent twice."""
        server = make_fault_server()
        store = station.store(
            server.endpoint,
            engine,
            memory=Known(),
            max_bandwidth=60_000,
            make_engine=lambda access, name, given, notice: make_engine(
                access, name, msgspec.structs.replace(given, silence_seconds=0.8), notice
            ),
        )
        futures = [station.begin(store, f"key-{number}", pattern(10_000, str(number))) for number in range(20)]
        assert [future.exception(PATIENCE) for future in futures] == [None] * 20
        assert server.counts()["PutObject"] == 20

    def test_a_slow_line_is_no_silence(self, station: Station, make_fault_server: MakeFaultServer) -> None:
        """While the kernel still gets rid of bytes the server is not taken for silent."""
        server = make_fault_server()
        store = station.store(
            server.endpoint,
            "native",
            memory=Known(),
            multipart_threshold=64 * MEBIBYTE,
            make_engine=lambda access, name, given, notice: make_engine(
                access, name, msgspec.structs.replace(given, silence_seconds=1.0), notice
            ),
        )
        server.faults.add(slow_body(50_000))
        assert station.put(store, "key", pattern(150_000)).proof is Proof.CHECKSUM
        assert server.counts()["PutObject"] == 1
