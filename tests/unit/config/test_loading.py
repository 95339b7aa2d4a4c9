"""The configuration: what is accepted, and how everything that is wrong with one is said."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from botocore.handlers import VALID_S3_ARN
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader import config
from s3_uploader.config import Config, FtpDestination, LocalDestination, MoveTo, S3Destination, loading
from s3_uploader.config.json_schema import json_schema
from s3_uploader.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = [ROOT / "config.example.json", *sorted(ROOT.glob("examples/**/*.json"))]
SHORTEST = {"base_dir": "/spool", "bucket": "bucket"}
FTP = {"base_dir": "/spool", "destination": {"type": "ftp", "host": "ftp.example.com"}}
LOCAL = {"base_dir": "/spool", "destination": {"type": "local", "path": "/archive"}}


def load(**keys: Any) -> Config:
    """The shortest configuration with more keys."""
    return config.from_mapping({**SHORTEST, **keys}, source="config.json")


def problems_of(raw: object) -> list[str]:
    """What is wrong with a configuration that must be refused."""
    with pytest.raises(ConfigError) as caught:
        config.from_mapping(raw, source="config.json")
    return caught.value.problems


def with_destination(form: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A configuration with more keys in its destination."""
    return {**form, "destination": {**form["destination"], **keys}}


class TestWhatIsAccepted:
    def test_two_keys_are_a_complete_configuration(self) -> None:
        """The base directory and the bucket are enough; everything else has a default."""
        loaded = load()
        assert loaded.base_dir == "/spool"
        assert loaded.destination == S3Destination(bucket="bucket")
        assert (loaded.layout, loaded.on_success, loaded.on_failure) == ("dated", "delete", "keep")

    def test_a_bucket_may_be_called_s3_bucket(self) -> None:
        """A file with the key s3_bucket, the older spelling, works unchanged."""
        loaded = config.decode(b'{\n    "base_dir": "base_dir_path", \n    "s3_bucket": "bucket_name"\n}', source="x")
        assert loaded.destination == S3Destination(bucket="bucket_name")

    def test_both_forms_of_a_bucket_mean_the_same(self) -> None:
        """Keys beside base_dir and keys inside the destination give the same configuration."""
        keys = {"bucket": "bucket", "region": "eu-south-2", "tags": {"team": "sea"}}
        short = config.from_mapping({"base_dir": "/spool", **keys}, source="x")
        long = config.from_mapping({"base_dir": "/spool", "destination": {"type": "s3", **keys}}, source="x")
        assert short == long

    def test_s3_bucket_is_accepted_inside_the_destination_too(self) -> None:
        """The synonym holds in the long form as well."""
        raw = {"base_dir": "/spool", "destination": {"type": "s3", "s3_bucket": "bucket"}}
        assert config.from_mapping(raw, source="x") == load()

    def test_other_destinations_are_named_by_their_type(self) -> None:
        """A destination of type ftp or local becomes just that."""
        assert isinstance(config.from_mapping(FTP, source="x").destination, FtpDestination)
        assert isinstance(config.from_mapping(LOCAL, source="x").destination, LocalDestination)

    def test_a_file_may_be_moved_instead_of_deleted(self) -> None:
        """on_success and on_failure take a directory to move the file to."""
        loaded = load(on_success={"move_to": "/done"}, on_failure={"move_to": "/failed", "attempts": 5})
        assert loaded.on_success == MoveTo(move_to="/done")
        assert loaded.on_failure == MoveTo(move_to="/failed", attempts=5)

    @pytest.mark.parametrize("name", ["UTC", "local", "Europe/Madrid"])
    def test_time_zones_are_known_by_name(self, name: str) -> None:
        """UTC, the machine's own and every name of the time zone database are accepted."""
        assert load(timezone=name).timezone == name

    def test_a_byte_order_mark_is_no_obstacle(self) -> None:
        """A file that an editor began with a UTF-8 byte order mark is read all the same."""
        assert config.decode(b"\xef\xbb\xbf" + json.dumps(SHORTEST).encode(), source="x") == load()

    def test_a_whole_number_will_do_for_a_number(self) -> None:
        """Durations may be written without a decimal point."""
        assert load(settle_seconds=3, max_runtime_seconds=50).max_runtime_seconds == 50

    def test_null_means_the_default(self) -> None:
        """A key that has no value by default may say so."""
        assert load(region=None, max_runtime_seconds=None) == load()

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
    def test_examples_load_and_match_the_schema(self, path: Path) -> None:
        """Every configuration that we hand out as an example is valid."""
        assert config.load(str(path)).base_dir
        jsonschema.validate(json.loads(path.read_text()), json_schema())


class TestFiles:
    def test_a_file_is_loaded(self, tmp_path: Path) -> None:
        """A configuration file becomes a configuration."""
        path = tmp_path / "config.json"
        path.write_text(json.dumps(SHORTEST))
        assert config.load(str(path)) == load()

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        """A file that is not there is a problem of the configuration, named by its path."""
        with pytest.raises(ConfigError) as caught:
            config.load(str(tmp_path / "none.json"))
        assert str(caught.value).startswith(f"{tmp_path}/none.json: cannot be read: No such file or directory. ")
        assert "s3-uploader-cli init" in caught.value.hint

    def test_a_file_of_another_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who may not read it learns whose turn it is."""

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr("builtins.open", refuse)
        with pytest.raises(ConfigError, match="cannot be read: Permission denied") as caught:
            config.load(str(tmp_path / "config.json"))
        monkeypatch.undo()
        assert caught.value.hint == "Let the user that runs this command read it."

    def test_a_directory_is_no_configuration(self, tmp_path: Path) -> None:
        """A path that cannot be read as a file says why."""
        with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
            config.load(str(tmp_path))

    def test_broken_json_names_the_line(self) -> None:
        """JSON that does not parse is pointed at by line and column, which an editor shows, and not by byte."""
        with pytest.raises(ConfigError) as caught:
            config.decode(b'{\n  "base_dir": "/spool",\n  bucket: "x"\n}', source="config.json")
        assert caught.value.problems[0].startswith("is not valid JSON: ")
        assert caught.value.problems[0].endswith("(line 3, column 3)")

    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            ("{base_dir: 1}", "double quotes"),
            ("{'base_dir': 1}", "double quotes"),
            ('{"base_dir": /spool}', ""),
            ('{"base_dir": "/spool",, }', "an extra comma"),
            ('{"base_dir": "/spool", # ours\n}', "begins with //"),
            ('{"prune_empty_dirs": True}', "true, false and null"),
            ('{"base_dir": "/spool"', "ends too soon"),
            ('{"base_dir": "/spool" "bucket": "b"}', ""),
            ('{"base_dir": "/spool", "settle_seconds": 1e400}', ""),
            ('{\n"base_dir": "/sp\udcfcl"}', "Line 2 is in another encoding. Save the file as UTF-8."),
            ('{"base_dir": "/spool"}}', "ends before this place"),
            ('{"base_dir": "/spool"} {"bucket": "b"}', "ends before this place"),
            (r'{"base_dir": "C:\spool"}', "A backslash in a string is written twice"),
            ("{\u201cbase_dir\u201d: 1}", "plain double quotes"),
            ('{"base_dir": \u201e/spool\u201c}', "plain double quotes"),
        ],
    )
    def test_a_slip_of_the_pen_is_named(self, text: str, hint: str) -> None:
        """What people often write that is no JSON is said to them in their words; of others the place is enough."""
        with pytest.raises(ConfigError) as caught:
            config.decode(text.encode("utf-8", "surrogateescape"), source="config.json")
        assert hint in caught.value.hint
        assert bool(hint) == bool(caught.value.hint)

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    def test_another_encoding_is_named(self, encoding: str) -> None:
        """Editors and shells of other systems write it."""
        with pytest.raises(ConfigError) as caught:
            config.decode('{"base_dir": "/spool", "bucket": "b"}'.encode(encoding), source="config.json")
        assert caught.value.hint == "The file is in another encoding, probably UTF-16. Save it as UTF-8."

    @pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b'{"base_dir": "\xff"}', b"[" * 5000])
    def test_what_is_no_json_is_said_to_be_none(self, text: bytes) -> None:
        """Empty, cut, wrongly encoded and absurdly nested files are all reported in the same way."""
        with pytest.raises(ConfigError) as caught:
            config.decode(text, source="config.json")
        assert caught.value.problems[0].startswith("is not valid JSON: ")

    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            (b" \n", "The file is empty"),
            (b"[Queue]\ndirectory = x\nbucket = y\n", "zc.s3uploadqueue; `s3-uploader-cli init --from`"),
            (b"s3:\n  default_bucket: y\n", "a configuration of s3; `s3-uploader-cli init --from`"),
            (b"base_dir: x\nbucket: y\n", "one JSON object"),
            (b'{"base_dir": "x" "bucket": "y"}', ""),
        ],
    )
    def test_what_another_file_is_meant_to_be_is_told(self, text: bytes, meant: str) -> None:
        """A file that does not begin like JSON is recognised, and what to do with it is said."""
        with pytest.raises(ConfigError) as caught:
            config.decode(text, source="config.json")
        assert meant in caught.value.hint
        assert bool(meant) == bool(caught.value.hint)

    @pytest.mark.parametrize("text", [b"[]", b"null", b'"x"', b"3"])
    def test_json_that_is_no_object_is_refused(self, text: bytes) -> None:
        """A configuration is a JSON object."""
        with pytest.raises(ConfigError, match="must be a JSON object"):
            config.decode(text, source="config.json")


class TestPipes:
    """A configuration may come from a command; what never comes is not waited for."""

    def test_what_a_command_writes(self, tmp_path: Path) -> None:
        """It may take its time, and write in pieces."""
        pipe = tmp_path / "pipe.json"
        os.mkfifo(pipe)

        def write() -> None:
            with pipe.open("wb", buffering=0) as file:
                file.write(b'{"base_dir": "/spool", ')
                file.write(b'"bucket": "b"}')

        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert config.load(str(pipe)).base_dir == "/spool"
        finally:
            writer.join()

    @pytest.mark.parametrize("key", ["", "$include"])
    def test_a_pipe_into_which_nobody_writes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
        """One that lies in a directory of configurations would stop the runs of all spools, for ever."""
        monkeypatch.setattr(loading, "_PATIENCE_SECONDS", 0.01)
        pipe = tmp_path / "pipe.json"
        os.mkfifo(pipe)
        (tmp_path / "config.json").write_text(json.dumps({key: "pipe.json"}))
        with pytest.raises(ConfigError, match=r"cannot be read: Nobody wrote to this pipe for 0\.01 s"):
            config.load(str(tmp_path / "config.json" if key else pipe))


class TestProblems:
    def test_all_problems_are_reported_at_once(self) -> None:
        """One look at the message is enough to mend the whole file."""
        raw = {
            "bse_dir": "/spool",
            "bucket": "my-bucket/logs",
            "settle_seconds": -1,
            "on_success": "shred",
            "timezone": "Mars/Olympus",
            "engine": "curl",
            "sse_kms_key_id": "key",
        }
        assert sorted(problems_of(raw)) == [
            "base_dir: is missing",
            "bse_dir: is not a known key; did you mean base_dir?",
            "bucket: must be a name without slashes. Put a path into key_prefix",
            'engine: must be "auto", "native" or "boto3", not "curl"',
            'on_success: must be "delete", "keep" or {"move_to": …}, not "shred"',
            "settle_seconds: must be a number of at least 0, not -1",
            'sse_kms_key_id: needs sse to be "aws:kms" or "aws:kms:dsse"',
            'timezone: "Mars/Olympus" is not a known time zone; write it like Europe/Madrid',
        ]

    def test_an_engine_that_is_gone(self) -> None:
        """A configuration that names the engine of an earlier version is told which one takes its place."""
        (problem,) = problems_of({"base_dir": "/spool", "bucket": "b", "engine": "crt"})
        assert problem.startswith("engine: crt is no longer an engine")
        assert "native" in problem

    def test_the_message_names_the_file_and_every_problem(self) -> None:
        """The error as a sentence holds the source and all problems."""
        with pytest.raises(ConfigError) as caught:
            config.from_mapping({}, source="/etc/uploader.json")
        assert str(caught.value) == "/etc/uploader.json: base_dir: is missing; bucket: is missing"

    @pytest.mark.parametrize(
        ("wrong", "right"),
        [
            ("basedir", "base_dir"),
            ("s3bucket", "s3_bucket"),
            ("settle_second", "settle_seconds"),
            ("destinaton", "destination"),
            ("storageclass", "storage_class"),
            ("SETTLE_SECONDS", "settle_seconds"),
            ("key-prefix", "key_prefix"),
        ],
    )
    def test_the_nearest_known_key_is_named(self, wrong: str, right: str) -> None:
        """A misspelt key is refused with the one that was meant, whatever part of the configuration has it."""
        assert f"{wrong}: is not a known key; did you mean {right}?" in problems_of({**SHORTEST, wrong: "x"})

    def test_a_key_like_no_other_has_no_suggestion(self) -> None:
        """Where nothing is near, nothing is guessed."""
        assert problems_of({**SHORTEST, "zzz": 1}) == ["zzz: is not a known key"]

    def test_a_key_of_another_destination_is_unknown(self) -> None:
        """Inside a destination only its own keys count."""
        assert problems_of(with_destination(LOCAL, storage_class="GLACIER")) == [
            "destination.storage_class: is not a known key"
        ]

    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("base_dir", 3, "a string that is not empty"),
            ("base_dir", "", "a string that is not empty"),
            ("bucket", "", "a string that is not empty"),
            ("settle_seconds", "10", "a number of at least 0"),
            ("settle_seconds", True, "a number of at least 0"),
            ("max_runtime_seconds", 0, "a number above 0"),
            ("max_concurrency", 0, "a whole number of at least 1"),
            ("max_concurrency", 1.5, "a whole number of at least 1"),
            ("part_size", 1024, "a whole number of at least 5,242,880 and at most 5,368,709,120"),
            ("prune_empty_dirs", "yes", "true or false"),
            ("include", "*.dat", "a list of strings"),
            ("include", [1], "a list of strings"),
            ("metadata", {"a": 1}, "an object whose values are strings"),
            ("layout", "flat", '"dated", "tree" or "queue"'),
            ("on_failure", {"moveto": "x"}, '"delete", "keep" or {"move_to": …}'),
        ],
    )
    def test_a_wrong_value_says_what_is_wanted(self, key: str, value: Any, expected: str) -> None:
        """A value of the wrong type or out of range is answered with what the key takes and what it was given."""
        assert problems_of({**SHORTEST, key: value}) == [f"{key}: must be {expected}, not {json.dumps(value)}"]

    @pytest.mark.parametrize("url", ["https://", "http:///x", "https://a b/c", "https://host:123456/x", "http://h/#x"])
    def test_pings_go_to_a_host(self, url: str) -> None:
        """A URL that no ping could reach is refused, without repeating the secret that it is."""
        (problem,) = problems_of({**SHORTEST, "ping_url": url})
        assert problem.startswith("ping_url: must name a host")

    def test_a_long_value_is_cut(self) -> None:
        """A problem stays one readable line."""
        (problem,) = problems_of({**SHORTEST, "layout": "x" * 500})
        assert len(problem) < 150

    def test_a_password_is_not_repeated(self) -> None:
        """What is wrong with a password is said without showing it."""
        (problem,) = problems_of(with_destination(FTP, password=12345))
        assert problem == "destination.password: must be a string"
        (problem,) = problems_of({**SHORTEST, "ping_url": "hc.example.com/token"})
        assert problem == "ping_url: must be a string that matches ^https?://"

    @pytest.mark.parametrize("kind", [None, "s4", 3, ["s3"], {}])
    def test_a_destination_says_what_it_is(self, kind: Any) -> None:
        """A destination of no type, or of an unknown one, is refused with the known ones."""
        raw = {"base_dir": "/spool", "destination": {"type": kind}}
        assert problems_of(raw)[0].startswith("destination.type: must be one of s3, ftp, sftp, local")

    def test_a_destination_is_an_object(self) -> None:
        """A destination that is a mere name is refused."""
        assert problems_of({"base_dir": "/spool", "destination": "bucket"}) == [
            "destination: must be an object with a type"
        ]

    def test_a_missing_key_of_the_destination_is_named_with_its_place(self) -> None:
        """Keys inside the destination carry its name."""
        assert problems_of({"base_dir": "/spool", "destination": {"type": "ftp"}}) == ["destination.host: is missing"]

    @pytest.mark.parametrize(
        ("raw", "problem"),
        [
            ({**SHORTEST, "s3_bucket": "other"}, "s3_bucket: means the same as bucket; give only one of them"),
            (
                with_destination({**LOCAL, "destination": {"type": "s3", "bucket": "a"}}, s3_bucket="b"),
                "destination.s3_bucket: means the same as bucket; give only one of them",
            ),
            ({**LOCAL, "region": "x"}, "region: belongs in the object destination"),
            (
                {**SHORTEST, "bucket": "arn:aws:s3:::my-bucket/*"},
                'bucket: is the ARN of a bucket; give the name alone: "my-bucket"',
            ),
            (
                {**SHORTEST, "bucket": "arn:aws:s3express:us-west-2:111122223333:bucket/b--usw2-az1--x-s3"},
                'bucket: is the ARN of a bucket; give the name alone: "b--usw2-az1--x-s3"',
            ),
            (
                {**SHORTEST, "bucket": ".."},
                'bucket: ".." cannot be a name, which has letters, digits, hyphens and dots',
            ),
            (
                {**SHORTEST, "bucket": "b" * 257},
                "bucket: must have at most 256 characters (63 at Amazon S3), not 257",
            ),
            (
                {**SHORTEST, "bucket": "s3://my-bucket/sensors"},
                "bucket: must be a name, not a URL. Put a path into key_prefix, a service into endpoint_url",
            ),
            (
                {**SHORTEST, "on_success": {"move_to": "x", "attempts": 2}},
                "on_success.attempts: is a key of on_failure only",
            ),
            *(
                (
                    {**SHORTEST, "endpoint_url": url},
                    "endpoint_url: must be the URL of a server, like https://s3.example.com or http://127.0.0.1:9000",
                )
                for url in (
                    "minio:9000",
                    "https:///x",
                    "http://minio:99999",
                    "http://minio:0",
                    "http://a b",
                    "https://a?b",
                )
            ),
            ({**SHORTEST, "tags": {str(n): "" for n in range(11)}}, "tags: an object can have 10 tags, not 11"),
            ({**SHORTEST, "metadata": {"a b": "c"}}, 'metadata: "a b" cannot be the name of an HTTP header'),
            (
                {**SHORTEST, "metadata": {"a": "b\r\nx-amz-acl: public-read"}},
                "metadata: the value of a must be printable ASCII, as in every HTTP header",
            ),
            ({**SHORTEST, "content_type": "a\n"}, "content_type: must be printable ASCII, as in every HTTP header"),
            ({**SHORTEST, "base_dir": "/a\0b"}, "base_dir: holds a NUL character"),
            ({**SHORTEST, "on_failure": {"move_to": "/a\0b"}}, "on_failure: holds a NUL character"),
            ({**SHORTEST, "exclude": ["a", "\0"]}, "exclude: holds a NUL character"),
            (with_destination(FTP, password_file="/a\0b"), "destination.password_file: holds a NUL character"),
            ({**SHORTEST, "claim_dir": ""}, "claim_dir: is empty"),
            (
                {**SHORTEST, "upload_timeout_seconds": 1e10},
                "upload_timeout_seconds: must be at most 1,000,000,000 seconds (31 years)",
            ),
            (
                with_destination(FTP, timeout_seconds=1e300),
                "destination.timeout_seconds: must be at most 1,000,000,000 seconds (31 years)",
            ),
            (
                {**SHORTEST, "history_max_files": 2**63},
                "history_max_files: must be at most 9,223,372,036,854,775,807",
            ),
            (
                {**SHORTEST, "bucket": "b?x"},
                'bucket: "b?x" cannot be a name, which has letters, digits, hyphens and dots',
            ),
            (
                {**SHORTEST, "bucket": "b\nHost: x"},
                'bucket: "b\\nHost: x" cannot be a name, which has letters, digits, hyphens and dots',
            ),
            ({**SHORTEST, "key_prefix": "\udcff"}, "key_prefix: is not valid UTF-8"),
            (with_destination(LOCAL, path="/a\0b"), "destination.path: holds a NUL character"),
            (
                with_destination(FTP, password="a", password_file="b"),
                "destination.password: give it directly or in password_file, not both",
            ),
            (with_destination(FTP, ca_file="x"), "destination.ca_file: needs tls to be true"),
            (with_destination(FTP, lock_stale_seconds=60), "destination.lock_stale_seconds: needs a lock_file"),
            (
                with_destination(FTP, host="ftp://example.com/"),
                "destination.host: must be a name or an address, without ftp:// and without a path",
            ),
        ],
    )
    def test_contradictions_are_found(self, raw: dict[str, Any], problem: str) -> None:
        """Keys that are right by themselves and wrong together are refused before anything is uploaded."""
        assert problems_of(raw) == [problem]

    @pytest.mark.parametrize(
        ("arn", "why"),
        [
            ("arn:aws:s3:eu-west-1:111122223333:accesspoint/mine", None),
            ("arn:aws-cn:s3:cn-north-1:111122223333:accesspoint:mine", None),
            ("arn:aws:s3::111122223333:accesspoint/mfzwi23gnjvgw.mrap", None),
            ("arn:aws:s3-object-lambda:eu-west-1:111122223333:accesspoint/mine", None),
            ("arn:aws:s3-outposts:eu-west-1:111122223333:outpost/op-0123/accesspoint/mine", None),
            ("arn:aws:s3:eu-west-1:111122223333:accesspoint", "end with accesspoint/NAME"),
            ("arn:aws:s3:eu-west-1:111122223333:accesspoint/mine/object/x", "end with accesspoint/NAME"),
            ("arn:aws:s3-outposts:eu-west-1:111122223333:accesspoint/mine", "end with outpost/ID/accesspoint/NAME"),
            ("arn:aws:s3-outposts::111122223333:outpost/op-0123/accesspoint/mine", 'a region, not ""'),
            ("arn:aws:s3:EU:111122223333:accesspoint/mine", 'a region, not "EU"'),
            ("arn:aws:iam::111122223333:role/mine", 's3, not "iam"'),
            ("arn:aws:s3:eu-west-1:1:accesspoint/mine", 'an account of 12 digits, not "1". Write it like arn:aws:s3:'),
            ("arn:amazon:s3:eu-west-1:111122223333:accesspoint/mine", 'aws-cn or the like, not "amazon"'),
            ("arn:", "aws-cn or the like"),
        ],
    )
    def test_the_arn_of_an_access_point(self, arn: str, why: str | None) -> None:
        """What botocore refuses with each request is refused here, with the part that is wrong."""
        assert (VALID_S3_ARN.search(arn) is None) == (why is not None)
        if why is None:
            assert config.from_mapping({**SHORTEST, "bucket": arn}, source="config.json")
        else:
            (problem,) = problems_of({**SHORTEST, "bucket": arn})
            assert problem.startswith("bucket: is not the ARN of an access point: ")
            assert why in problem

    def test_a_machine_without_time_zones_is_told_apart_from_a_wrong_name(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the time zone database is missing, the problem says so and what to install."""
        monkeypatch.setattr("zoneinfo.ZoneInfo", _no_such_zone)
        (problem,) = problems_of({**SHORTEST, "timezone": "Europe/Madrid"})
        assert problem.endswith("this machine has no time zones; install tzdata")

    def test_a_wrong_time_zone_is_told_without_a_look_at_all_of_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name that no time zone has costs no walk through the whole database of time zones."""
        monkeypatch.setattr("zoneinfo.available_timezones", lambda: pytest.fail("every file of the database is opened"))
        (problem,) = problems_of({**SHORTEST, "timezone": "Europe/Madird"})
        assert problem == 'timezone: "Europe/Madird" is not a known time zone; write it like Europe/Madrid'


def _no_such_zone(name: str) -> None:
    raise ValueError(name)


class TestSchema:
    schema = json_schema()

    def accepts(self, raw: object) -> bool:
        """Whether a configuration satisfies the schema."""
        return jsonschema.Draft202012Validator(self.schema).is_valid(raw)

    def test_the_schema_is_one(self) -> None:
        """What the schema command prints is a valid JSON Schema."""
        jsonschema.Draft202012Validator.check_schema(self.schema)

    @pytest.mark.parametrize(
        "raw",
        [
            SHORTEST,
            {"base_dir": "/spool", "s3_bucket": "bucket"},
            {**SHORTEST, "region": "eu-south-2", "on_failure": {"move_to": "x", "attempts": 3}},
            {"base_dir": "/spool", "destination": {"type": "s3", "bucket": "b"}},
            {"base_dir": "/spool", "destination": {"type": "s3", "s3_bucket": "b"}},
            FTP,
            LOCAL,
        ],
    )
    def test_both_forms_are_valid(self, raw: dict[str, Any]) -> None:
        """The short and the long form of a destination satisfy the schema and load."""
        assert self.accepts(raw)
        config.from_mapping(raw, source="x")

    @pytest.mark.parametrize(
        "raw",
        [
            {},
            [],
            {"base_dir": "/spool"},
            {"bucket": "bucket"},
            {**SHORTEST, "s3_bucket": "other"},
            {**SHORTEST, "settel_seconds": 3},
            {**SHORTEST, "settle_seconds": -3},
            {**SHORTEST, "type": "s3"},
            {**SHORTEST, "on_success": {"move_to": "x", "extra": 1}},
            {**SHORTEST, **LOCAL},
            {**LOCAL, "region": "x"},
            {"base_dir": "/spool", "destination": {"bucket": "b"}},
            {"base_dir": "/spool", "destination": {"type": "s3", "bucket": "b", "s3_bucket": "c"}},
            {"base_dir": "/spool", "destination": {"type": "s3", "bucket": "b", "extra": 1}},
            with_destination(LOCAL, bucket="b"),
        ],
    )
    def test_the_schema_refuses_what_does_not_load(self, raw: object) -> None:
        """Unknown keys, wrong values and both forms at once fail in an editor as they do in the program."""
        assert not self.accepts(raw)
        problems_of(raw)

    def test_every_key_has_a_description(self) -> None:
        """The reference page has a sentence for each key."""
        for name, definition in self.schema["$defs"].items():
            for key, value in definition["properties"].items():
                assert key == "type" or value["description"], f"{name}.{key}"


_keys = st.sampled_from(
    [
        *msgspec.json.schema(S3Destination)["$defs"]["S3Destination"]["properties"],
        *Config.__struct_fields__,
        *FtpDestination.__struct_fields__,
        "s3_bucket",
        "move_to",
        "path",
    ]
) | st.text(max_size=5)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["s3", "ftp", "local", "keep", "delete", "dated", "UTC", "http://x", 10**400, -(10**400)])
)
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=6), max_leaves=6
)
_configurations = st.builds(
    lambda extra, base: {**base, **extra},
    st.dictionaries(_keys, _json, max_size=8),
    st.sampled_from([{}, SHORTEST, FTP, LOCAL]),
)


class TestArbitraryInput:
    @given(_configurations | _json)
    def test_a_mapping_loads_or_is_refused(self, raw: object) -> None:
        """Whatever a caller hands in, the answer is a configuration or a ConfigError."""
        with contextlib.suppress(ConfigError):
            config.from_mapping(raw, source="x")

    @given(st.binary() | _configurations.map(lambda raw: json.dumps(raw).encode()))
    def test_a_file_loads_or_is_refused(self, text: bytes) -> None:
        """Whatever a file holds, the answer is a configuration or a ConfigError."""
        with contextlib.suppress(ConfigError):
            config.decode(text, source="x")

    @given(_configurations)
    def test_what_loads_satisfies_the_schema(self, raw: dict[str, Any]) -> None:
        """The schema is never stricter than the program."""
        text = json.dumps(raw)
        try:
            config.decode(text.encode(), source="x")
        except ConfigError:
            return
        jsonschema.validate(json.loads(text), TestSchema.schema)


class TestWrittenByHand:
    """What somebody may write who edits the file: comments, units, shared defaults."""

    def test_comments_and_trailing_commas(self) -> None:
        """Both are allowed, and what looks like a comment inside a string is none."""
        text = b"""// spool of the kitchen
        {
            "$schema": "s3-uploader.schema.json",
            "base_dir": "/a//b", /* two
            lines */ "bucket": "b/*no*/",
            "exclude": ["*.tmp", "x,]",], // these
        }"""
        with pytest.raises(ConfigError) as caught:
            config.decode(text, source="x")
        assert caught.value.problems == ["bucket: must be a name without slashes. Put a path into key_prefix"]
        loaded = config.decode(text.replace(b"b/*no*/", b"b"), source="x")
        assert (loaded.base_dir, loaded.exclude) == ("/a//b", ["*.tmp", "x,]"])

    @pytest.mark.parametrize("text", ["{,}", '{"a": [,]}', '{"a": 1,, "b": 2}', '{"a": 1} /*', '{"a":,}', '{"a" "b",}'])
    def test_what_is_still_no_json(self, text: str) -> None:
        """A comma that follows nothing, or a comment without an end, is a mistake."""
        with pytest.raises(ConfigError, match="is not valid JSON"):
            config.decode(text.encode(), source="x")

    def test_the_line_of_a_mistake(self) -> None:
        """Comments take no line away."""
        with pytest.raises(ConfigError, match=r"\(line 4, column 13\)"):
            config.decode(b'{\n/* one\ntwo */\n"base_dir": x,\n}', source="x")

    def test_a_key_that_stands_twice(self) -> None:
        """It is refused, at any depth; the same key in two objects is none."""
        text = '{"base_dir": "/a:b", "bucket": "b", "tags": {"x:": "1", "x:": "2"}, "base\\u005fdir": "/c"}'
        with pytest.raises(ConfigError) as caught:
            config.decode(text.encode(), source="x")
        assert sorted(caught.value.problems) == ["base_dir: occurs twice in the file", "x:: occurs twice in the file"]
        config.decode(b'{"base_dir": "/a", "bucket": "b", "tags": {"x": "1"}, "metadata": {"x": "1"}}', source="x")

    @pytest.mark.parametrize(
        ("key", "text", "value"),
        [
            ("settle_seconds", "10s", 10),
            ("settle_seconds", "1.5 min", 90),
            ("max_runtime_seconds", "6h", 21600),
            ("history_days", "4w", 28),
            ("max_bandwidth", "2MB", 2_000_000),
            ("part_size", "8MiB", 8 * 2**20),
        ],
    )
    def test_units(self, key: str, text: str, value: float) -> None:
        """Durations and sizes may be written with a unit, and the schema knows it."""
        loaded = load(**{key: text})
        assert getattr(loaded, key, None) == value or getattr(loaded.destination, key, None) == value
        jsonschema.validate({**SHORTEST, key: text}, json_schema())

    @pytest.mark.parametrize(("key", "text"), [("settle_seconds", "10"), ("part_size", "8"), ("history_days", "36h")])
    def test_no_unit_no_number(self, key: str, text: str) -> None:
        """A number in quotes is a mistake, and so is a part of a day where days are counted."""
        assert problems_of({**SHORTEST, key: text})[0].startswith(f"{key}: must be")

    def test_the_home_directory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A tilde in a local path is the home directory; in a path on a server it is a tilde."""
        monkeypatch.setenv("HOME", "/home/pi")
        loaded = config.from_mapping({**LOCAL, "base_dir": "~/spool", "on_success": {"move_to": "~/sent"}}, source="x")
        assert (loaded.base_dir, loaded.on_success) == ("/home/pi/spool", MoveTo("/home/pi/sent"))
        server = config.from_mapping(with_destination(FTP, path="~/in"), source="x").destination
        assert isinstance(server, FtpDestination)
        assert server.path == "~/in"

    def test_shared_defaults(self, tmp_path: Path) -> None:
        """What is included is a default for each key, also inside objects; problems name the file they are from."""
        (tmp_path / "shared.json").write_text(
            '{"s3_bucket": "b", "tags": {"a": "1", "b": "1"}, "settle_seconds": "1min"}'
        )
        own = tmp_path / "own.json"
        own.write_text('{"$include": "shared.json", "base_dir": "/spool", "tags": {"b": "2"}}')
        loaded = config.load(str(own), environ={})
        assert isinstance(loaded.destination, S3Destination)
        assert (loaded.destination.bucket, loaded.destination.tags) == ("b", {"a": "1", "b": "2"})
        assert loaded.settle_seconds == 60
        own.write_text(
            '{"$include": "shared.json", "base_dir": "/spool", "destination": {"type": "local", "path": "/x"}}'
        )
        assert config.load(str(own), environ={}).destination == LocalDestination(path="/x")
        (tmp_path / "shared.json").write_text('{"bucket": 3}')
        own.write_text('{"$include": ["shared.json"], "base_dir": "/spool"}')
        with pytest.raises(ConfigError, match=r"bucket: must be a string.* \(from .*shared\.json\)"):
            config.load(str(own), environ={})

    def test_defaults_that_are_not_there(self, tmp_path: Path) -> None:
        """The file that names them is told, with where they were looked for."""
        own = tmp_path / "own.json"
        own.write_text('{"$include": "../shared.json", "base_dir": "/spool", "bucket": "b"}')
        with pytest.raises(ConfigError, match=r"\$include: \.\./shared\.json cannot be read: No such file") as caught:
            config.load(str(own), environ={})
        assert caught.value.source == str(own.resolve())
        assert f"{tmp_path.parent}/shared.json." in caught.value.hint

    @pytest.mark.parametrize("name", ["includes", "defaults", "$includes", "extends"])
    def test_another_word_for_shared_defaults(self, name: str) -> None:
        """Whoever means shared defaults is told their key, and not the one that chooses files."""
        with pytest.raises(ConfigError, match=r'named with "\$include"'):
            config.from_mapping({**LOCAL, name: "shared.json"}, source="x")

    def test_a_file_that_includes_itself(self, tmp_path: Path) -> None:
        """A circle is refused."""
        (tmp_path / "a.json").write_text('{"$include": "b.json"}')
        (tmp_path / "b.json").write_text('{"$include": "a.json"}')
        with pytest.raises(ConfigError, match="includes itself"):
            config.load(str(tmp_path / "a.json"), environ={})

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            ("access_key_id", "AWS_ACCESS_KEY_ID"),
            ("aws_secret_access_key", "~/.aws/credentials"),
            ("interval", "units --every"),
            ("log_level", "-v"),
            ("prefix", "did you mean key_prefix?"),
            ("directory", "did you mean base_dir?"),
        ],
    )
    def test_what_other_programs_call_it(self, key: str, said: str) -> None:
        """A key of other programs is answered with where that belongs here, and a secret is not repeated."""
        (problem,) = problems_of({**SHORTEST, key: "s3cr3t"})
        assert said in problem
        assert "s3cr3t" not in problem
