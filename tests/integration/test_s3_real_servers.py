"""The S3 store on real servers of the old, the new and the weak dialect, with every engine."""

from __future__ import annotations

import hashlib
import threading
import time

import pytest

from s3_uploader.core.errors import ConflictError, KeyRefused, ProofError, Scope, StoreError
from s3_uploader.core.model import OnConflict, Proof
from s3_uploader.stores.base import PendingReceipt
from s3_uploader.stores.s3.store import S3Store
from tests.contracts.store_contract import ODD_KEYS, pattern
from tests.integration.s3_support import MEBIBYTE, PART, PATIENCE, MeddlingProxy, Station, conditional, pending_uploads
from tests.servers.base import S3Endpoint
from tests.servers.dialects import Dialect

pytestmark = pytest.mark.rotated("real_s3")

MORE_ODD_KEYS = (
    *ODD_KEYS,
    "//",
    "/",
    "./dot-first.dat",
    "../up-first.dat",
    "trailing/slash/",
    "percent%",
    "%2e%2e%2fup.dat",
    "plus+space +.dat",
    "~tilde~/~.dat",
    "new\nline/and\r\nboth.dat",
    "a" * 1024,
    "deep/" * 200 + "x" * 24,
    "é" * 512,
)


def dialect_of(endpoint: S3Endpoint) -> Dialect:
    """What to expect of the server."""
    assert endpoint.dialect is not None
    return endpoint.dialect


class TestAccess:
    def test_right_credentials(self, real_s3: S3Endpoint, engine: str, station: Station) -> None:
        """With the right credentials a file arrives, proven, and its receipt holds the object's ETag."""
        store = station.store(real_s3, engine)
        receipt = station.put(store, "bedroom/2020/11/29/20/46-topic.dat", b"content")
        assert real_s3.objects() == {"bedroom/2020/11/29/20/46-topic.dat": b"content"}
        assert receipt.proof >= Proof.MD5
        assert receipt.etag == hashlib.md5(b"content").hexdigest()
        assert not receipt.already_there

    @pytest.mark.parametrize(
        ("wrong", "codes"),
        [
            ({"access_key": "AKIAIOSFODNN7EXAMPLE"}, {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"}),
            ({"secret_key": "wrong"}, {"SignatureDoesNotMatch"}),
            ({"bucket": "there-is-no-such-bucket"}, {"NoSuchBucket"}),
        ],
        ids=["key-id", "secret", "bucket"],
    )
    @pytest.mark.parametrize("size", [10, PART + 1])
    def test_wrong_credentials_and_bucket(
        self, real_s3: S3Endpoint, engine: str, station: Station, wrong: dict[str, str], codes: set[str], size: int
    ) -> None:
        """Wrong credentials and a missing bucket end the run at once, with the server's word for it and what to do."""
        store = station.store(real_s3.replace(**wrong), engine)
        began = time.monotonic()
        error = station.error(store, "key", pattern(size))
        assert time.monotonic() - began < 5
        assert error.code in codes
        assert error.scope is Scope.DESTINATION
        assert not error.retryable
        assert error.hint
        assert real_s3.keys() == []

    # rclone answers the checksum that it was sent, without a look at the bytes.
    @pytest.mark.parametrize("real_s3", ["swift", "ceph"], indirect=True)
    def test_a_stronger_proof_than_there_is(self, real_s3: S3Endpoint, engine: str, station: Station) -> None:
        """None of these servers answers with checksums, so who asks for that proof has the object read back."""
        store = station.store(real_s3, engine)
        assert station.put(store, "key", b"content", minimum_proof=Proof.CHECKSUM).proof is Proof.CHECKSUM


class TestKeysAndContent:
    @pytest.mark.parametrize("size", [0, 1])
    def test_empty_and_tiny_files(self, real_s3: S3Endpoint, engine: str, station: Station, size: int) -> None:
        """An empty file becomes an empty object."""
        store = station.store(real_s3, engine)
        receipt = station.put(store, "empty.dat", b"x" * size)
        assert real_s3.objects() == {"empty.dat": b"x" * size}
        assert receipt.size == size
        assert station.put(store, "empty.dat", b"x" * size).already_there

    def test_odd_keys_exactly_or_not_at_all(self, real_s3: S3Endpoint, engine: str, station: Station) -> None:
        """Whatever is in a key, it is stored byte for byte or refused; it never turns into another one."""
        store = station.store(real_s3, engine)
        station.put(store, "first", b"so that the store knows its destination")
        stored, refused = {"first"}, {}
        for number, key in enumerate(MORE_ODD_KEYS):
            error = station.begin(store, key, b"%d" % number).exception(PATIENCE)
            if error is None:
                stored.add(key)
            else:
                assert isinstance(error, StoreError)
                assert error.scope is Scope.FILE, f"{key!r} would end the run: {error}"
                refused[key] = str(error)
        if real_s3.server == "rclone":
            # It keeps objects as files: control characters are written as their pictures in a listing, a slash at the
            # end is lost, and what is too long for a file's name is answered with 500 and listed all the same.
            shown = str.maketrans({0x2400 + code: code for code in range(32)} | {0x2421: 0x7F})
            listed = {key.translate(shown) for key in real_s3.keys()}  # noqa: SIM118
            keys = {key for key in listed if max(len(name.encode()) for name in key.split("/")) < 256}
            assert keys == {key.rstrip("/") for key in stored}, refused
        else:
            contents = real_s3.client().list_objects_v2(Bucket=real_s3.bucket)["Contents"]
            etags = {entry["Key"]: entry["ETag"].strip('"') for entry in contents if entry["Key"] != "first"}
            assert etags == {
                key: hashlib.md5(b"%d" % number).hexdigest()
                for number, key in enumerate(MORE_ODD_KEYS)
                if key not in refused
            }, refused
        if real_s3.server == "ceph":
            assert refused == {}
        again = station.begin(store, "plus+and&equals=and?question#hash.dat", b"other").exception(PATIENCE)
        assert isinstance(again, ConflictError)

    @pytest.mark.parametrize("key", ["k" * 1025, "é" * 512 + "x"])
    def test_a_key_of_1025_bytes(self, real_s3: S3Endpoint, engine: str, station: Station, key: str) -> None:
        """A key that is one byte too long is refused before anything is sent."""
        store = station.store(real_s3, engine)
        assert isinstance(station.error(store, key, b"content"), KeyRefused)
        assert real_s3.keys() == []

    def test_engines_make_the_same_object(self, real_s3: S3Endpoint, station: Station) -> None:
        """Each engine finds what another one stored and recognises it as the same content."""
        engines = ("native", "boto3")
        stores = [station.store(real_s3, engine) for engine in engines]
        for size in (0, 100, PART + 100):
            for number, store in enumerate(stores):
                receipt = station.put(store, f"{size}.dat", pattern(size))
                assert receipt.already_there == (number > 0)
        client = real_s3.client()
        kinds = {client.head_object(Bucket=real_s3.bucket, Key=key)["ContentType"] for key in real_s3.objects()}
        assert len(kinds) == 1


class TestConflicts:
    @pytest.mark.parametrize("size", [100, PART + 100])
    def test_fail(self, real_s3: S3Endpoint, engine: str, station: Station, size: int) -> None:
        """Other content under the key stays what it is; the error names its ETag."""
        store = station.store(real_s3, engine)
        real_s3.client().put_object(Bucket=real_s3.bucket, Key="taken", Body=b"theirs")
        for _ in range(2):
            error = station.error(store, "taken", pattern(size))
            assert isinstance(error, ConflictError)
            assert error.existing == hashlib.md5(b"theirs").hexdigest()
            assert error.hint
        assert real_s3.objects() == {"taken": b"theirs"}
        assert pending_uploads(real_s3) == []

    @pytest.mark.parametrize("size", [100, PART + 100])
    def test_overwrite(self, real_s3: S3Endpoint, engine: str, station: Station, size: int) -> None:
        """With on_conflict: overwrite the new content is there afterwards, proven."""
        store = station.store(real_s3, engine)
        real_s3.client().put_object(Bucket=real_s3.bucket, Key="taken", Body=b"theirs")
        for content in (pattern(size, "1"), pattern(size, "2")):
            receipt = station.put(store, "taken", content, on_conflict=OnConflict.OVERWRITE)
            assert not receipt.already_there
            assert receipt.proof >= Proof.MD5
            assert real_s3.objects() == {"taken": content}
        assert pending_uploads(real_s3) == []

    @pytest.mark.parametrize("size", [100, PART + 100])
    def test_keep_both(self, real_s3: S3Endpoint, engine: str, station: Station, size: int) -> None:
        """With on_conflict: keep-both each content has one key of its own, however often it is sent."""
        store = station.store(real_s3, engine)
        real_s3.client().put_object(Bucket=real_s3.bucket, Key="taken.dat", Body=b"theirs")
        contents = [pattern(size, "1"), pattern(size, "2")]
        keys = [
            [station.put(store, "taken.dat", content, on_conflict=OnConflict.KEEP_BOTH).key for content in contents]
        ]
        for _ in range(2):
            receipts = [
                station.put(store, "taken.dat", content, on_conflict=OnConflict.KEEP_BOTH) for content in contents
            ]
            assert all(receipt.already_there for receipt in receipts)
            keys.append([receipt.key for receipt in receipts])
        assert keys[0] == keys[1] == keys[2]
        assert real_s3.objects() == {"taken.dat": b"theirs", keys[0][0]: contents[0], keys[0][1]: contents[1]}
        assert pending_uploads(real_s3) == []

    @pytest.mark.parametrize("size", [100, PART + 100])
    def test_an_object_of_ours_that_was_superseded(
        self, real_s3: S3Endpoint, engine: str, station: Station, size: int
    ) -> None:
        """The object of an earlier version of the file is replaced by its ETag; no other object is."""
        store = station.store(real_s3, engine)
        old = station.put(store, "key", pattern(size, "old"))
        receipt = station.put(store, "key", pattern(size, "new"), replaces=old.etag)
        assert real_s3.objects() == {"key": pattern(size, "new")}
        assert receipt.proof >= Proof.MD5
        assert isinstance(station.error(store, "key", pattern(size, "newer"), replaces=old.etag), ConflictError)
        assert real_s3.objects() == {"key": pattern(size, "new")}

    @pytest.mark.parametrize("size", [4096, PART + 100])
    def test_a_race_for_one_key(self, real_s3: S3Endpoint, engine: str, station: Station, size: int) -> None:
        """Of two stores with different content for one key at most the one whose content is there has a receipt.

        Where the server is atomic, that is so in every case; elsewhere the second may replace the first, as the
        guarantees say, but each content that is reported was there, and what is there in the end is one of the two.
        """
        dialect = dialect_of(real_s3)
        # Swift answers 412, but looks first and writes then; Ceph 16 knows the condition for whole objects only.
        atomic = dialect.conditional_put == "honoured" and real_s3.server == "ceph" and size <= PART
        stores = [station.store(real_s3, engine) for _ in range(2)]
        for number, store in enumerate(stores):
            station.put(store, f"warm-up-{number}", b"x")
        for attempt in range(4):
            contents = [pattern(size, f"{attempt}-{number}") for number in range(2)]
            together = threading.Barrier(2)
            futures: list[PendingReceipt | None] = [None, None]

            def begin(number: int, store: S3Store, key: str, content: bytes) -> None:
                together.wait()  # noqa: B023
                futures[number] = station.begin(store, key, content)  # noqa: B023

            threads = [
                threading.Thread(target=begin, args=(number, store, f"race-{attempt}", contents[number]))
                for number, store in enumerate(stores)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            errors = [future.exception(PATIENCE) for future in futures if future is not None]
            there = real_s3.read(f"race-{attempt}")
            winners = [number for number, error in enumerate(errors) if error is None]
            assert winners, errors
            assert there in [contents[number] for number in winners]
            if atomic:
                assert len(winners) == 1
                assert isinstance(errors[1 - winners[0]], ConflictError)
            # Who finds other bytes under his key after he has written is told that nothing is proven.
            assert all(error is None or isinstance(error, (ConflictError, ProofError)) for error in errors), errors
        assert pending_uploads(real_s3) == []

    def test_what_is_said_of_conditional_writes(self, real_s3: S3Endpoint, engine: str, station: Station) -> None:
        """After the first upload the store knows whether the server honours conditional writes, and warns if not."""
        store = station.store(real_s3, engine)
        assert conditional(store) == ""
        station.put(store, "key", b"content")
        honoured = dialect_of(real_s3).conditional_put == "honoured"
        assert (conditional(store) == "yes") is honoured
        warnings = [message for level, message in station.notices if level == "warning"]
        assert len(warnings) == (not honoured)
        assert all("replace" in message for message in warnings)


class TestMultipart:
    @pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1])
    def test_sizes_around_the_boundaries(self, real_s3: S3Endpoint, engine: str, station: Station, size: int) -> None:
        """One byte less or more than a threshold or a whole number of parts makes no difference to what arrives."""
        store = station.store(real_s3, engine)
        content = pattern(size)
        receipt = station.put(store, "large.dat", content)
        assert real_s3.objects() == {"large.dat": content}
        assert receipt.size == size
        assert receipt.proof >= Proof.MD5
        in_parts = size > PART
        if real_s3.server != "rclone":
            assert ("-" in receipt.etag) == in_parts
        assert station.put(store, "large.dat", content).already_there
        assert pending_uploads(real_s3) == []

    def test_an_object_made_of_other_parts_is_the_same_content(
        self, real_s3: S3Endpoint, engine: str, station: Station
    ) -> None:
        """An ETag of parts of another size says nothing; the bytes are compared, and they are the same."""
        content = pattern(13 * MEBIBYTE)
        station.put(station.store(real_s3, engine, part_size=6 * MEBIBYTE), "large.dat", content)
        store = station.store(real_s3, engine)
        assert station.put(store, "large.dat", content).already_there
        other = content[:-1] + bytes([content[-1] ^ 1])
        assert isinstance(station.error(store, "large.dat", other), ConflictError)
        assert real_s3.read("large.dat") == content
        assert pending_uploads(real_s3) == []

    def test_a_store_that_is_closed_leaves_no_parts(self, real_s3: S3Endpoint, engine: str, station: Station) -> None:
        """Cancelled in the middle of its parts, an upload is aborted at the server, too."""
        store = station.store(real_s3, engine)
        station.put(store, "first", b"x")
        futures = [station.begin(store, f"large-{number}", pattern(6 * PART, str(number))) for number in range(2)]
        time.sleep(0.1)
        store.cancel()
        errors = [future.exception(PATIENCE) for future in futures]
        store.close(timeout=10)
        assert pending_uploads(real_s3) == []
        objects = real_s3.objects()
        for number, error in enumerate(errors):
            # Cancelled at the very end it may be there all the same, but then it is whole.
            there = objects.get(f"large-{number}")
            assert there == pattern(6 * PART, str(number)) or (error is not None and there is None)


class TestCorruption:
    @pytest.mark.parametrize("size", [3000, PART + 3000])
    def test_a_flipped_bit_on_the_way(self, real_s3: S3Endpoint, engine: str, station: Station, size: int) -> None:
        """Bytes that are damaged between client and server never count as proven, whatever the server checks."""
        mark = b"THE-MARK-" * 10
        content = pattern(size - len(mark)) + mark

        def flip(data: bytes) -> bytes:
            return data.replace(b"MARK", b"MASK", 1)

        with MeddlingProxy(real_s3, flip) as proxy:
            store = station.store(proxy.endpoint, engine)
            error = station.error(store, "damaged", content)
            assert error.hint
        assert pending_uploads(real_s3) == []
        if dialect_of(real_s3).verifies_payload_hash or dialect_of(real_s3).verifies_checksums:
            assert real_s3.keys() == []

    # rclone detects nothing.
    @pytest.mark.parametrize("real_s3", ["swift", "ceph"], indirect=True)
    def test_a_bit_flipped_once_is_mended(self, real_s3: S3Endpoint, engine: str, station: Station) -> None:
        """Damage that the server detects is mended by sending the bytes once more."""
        assert dialect_of(real_s3).verifies_payload_hash
        flipped: list[bytes] = []

        def flip_once(data: bytes) -> bytes:
            if b"THE-MARK" in data and not flipped:
                flipped.append(data)
                return data.replace(b"MARK", b"MASK", 1)
            return data

        with MeddlingProxy(real_s3, flip_once) as proxy:
            store = station.store(proxy.endpoint, engine)
            station.put(store, "first", b"x")
            station.put(store, "mended", b"THE-MARK")
        assert flipped
        assert real_s3.read("mended") == b"THE-MARK"


class TestOptions:
    def test_metadata_arrives_as_it_is(self, real_s3: S3Endpoint, engine: str, station: Station) -> None:
        """User metadata and the content type of the configuration are the object's, whatever is in them."""
        metadata = {"origin": "bed  room", "Sensor-ID": "a=b&c; d+e/f%20", "empty": "", "equals": "=?utf-8?="}
        store = station.store(real_s3, engine, metadata={"site": "north"}, content_type="text/csv; charset=utf-8")
        for size in (10, PART + 10):
            station.put(store, f"key-{size}", pattern(size), metadata=metadata)
            head = real_s3.client().head_object(Bucket=real_s3.bucket, Key=f"key-{size}")
            if real_s3.server == "rclone" and size > PART:
                continue  # It drops the metadata of an object that is made of parts.
            expected = {"site": "north", **{name.lower(): value for name, value in metadata.items() if value}}
            found = {name.lower(): value for name, value in head["Metadata"].items() if value}
            if real_s3.server == "rclone":
                found = {name: value for name, value in found.items() if name in expected}
            assert found == expected
            assert head["ContentType"] == "text/csv; charset=utf-8"

    @pytest.mark.parametrize("size", [10, PART + 10])
    def test_tags_class_and_acl(self, ceph_s3: S3Endpoint, engine: str, station: Station, size: int) -> None:
        """Tags, storage class and ACL of the configuration are the object's."""
        tags = {"project": "weather & more", "a b": "c+d=e"}
        store = station.store(ceph_s3, engine, storage_class="STANDARD_IA", acl="public-read", tags=tags)
        station.put(store, "key", pattern(size))
        client = ceph_s3.client()
        head = client.head_object(Bucket=ceph_s3.bucket, Key="key")
        assert head["StorageClass"] == "STANDARD_IA"
        if size <= PART:
            # Ceph 16 forgets the tags of an upload in parts.
            tag_set = client.get_object_tagging(Bucket=ceph_s3.bucket, Key="key")["TagSet"]
            assert {tag["Key"]: tag["Value"] for tag in tag_set} == tags
        grants = client.get_object_acl(Bucket=ceph_s3.bucket, Key="key")["Grants"]
        assert any(grant["Grantee"].get("URI", "").endswith("/AllUsers") for grant in grants)

    def test_a_setting_that_the_server_does_not_know(self, swift_s3: S3Endpoint, engine: str, station: Station) -> None:
        """A storage class that the server refuses is everybody's problem and says so."""
        store = station.store(swift_s3, engine, storage_class="GLACIER")
        error = station.error(store, "key", b"content")
        assert error.code == "InvalidStorageClass"
        assert error.scope is Scope.DESTINATION
        assert "storage_class" in error.hint

    def test_versions(self, ceph_s3: S3Endpoint, engine: str, station: Station) -> None:
        """In a versioned bucket the receipt names the version."""
        client = ceph_s3.client()
        client.put_bucket_versioning(Bucket=ceph_s3.bucket, VersioningConfiguration={"Status": "Enabled"})
        store = station.store(ceph_s3, engine)
        receipt = station.put(store, "key", b"content")
        assert receipt.version_id
        assert client.head_object(Bucket=ceph_s3.bucket, Key="key", VersionId=receipt.version_id)["ContentLength"] == 7
