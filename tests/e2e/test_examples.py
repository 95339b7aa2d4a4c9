"""The examples: each command as it is printed, each configuration unchanged but for the FTP server's port."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.printed import typed
from tests.e2e.site import COMMAND
from tests.servers.base import S3Endpoint, S3Server
from tests.servers.pyftpd import PyFtpServer

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of an example to work in."""

    def copy(name: str) -> Path:
        place = tmp_path / name
        shutil.copytree(EXAMPLES / name, place)
        return place

    return copy


@pytest.fixture(scope="module")
def s3(moto_server: S3Server) -> S3Endpoint:
    """A server that others use too, with the buckets of the examples, whose names nobody else has."""
    for bucket in ("bucket", "testbucket", "doodad-results", "my_other_bucket", "ZZZZZZZ"):
        moto_server.client().create_bucket(Bucket=bucket)
    return moto_server.endpoint


def environment(place: Path, server: S3Endpoint | None = None, **more: str) -> dict[str, str]:
    """What a program needs to find the server, with a state directory of its own."""
    found = {
        "PATH": f"{COMMAND.parent}:/usr/bin:/bin",
        "HOME": str(place),
        "XDG_STATE_HOME": str(place / "state"),
        **more,
    }
    return found if server is None else {**found, **server.environment()}


def printed(place: Path) -> list[str]:
    """The commands that the example's page tells people to type, in its order."""
    return [command.text for command in typed(f"examples/{place.name}/README.md")]


def type_in(place: Path, variables: dict[str, str], command: str) -> subprocess.CompletedProcess[str]:
    """Type a command in the example's directory."""
    return subprocess.run(["bash", "-c", command], cwd=place, env=variables, capture_output=True, text=True, timeout=60)


def prepare(place: Path, variables: dict[str, str]) -> list[str]:
    """Type what comes before the program is started; returns the commands that are left."""
    commands = printed(place)
    while "s3-uploader-cli" not in commands[0]:
        done = type_in(place, variables, commands.pop(0))
        assert done.returncode == 0, done.stderr
    return commands


@contextmanager
def watching(place: Path, variables: dict[str, str], command: str) -> Iterator[subprocess.Popen[bytes]]:
    """``watch`` at work; it is told to stop at the end, and has to end well."""
    assert command.split()[:2] == ["s3-uploader-cli", "watch"]
    process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=place, env=variables, stderr=subprocess.PIPE)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 143, log.decode()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Wait for something to become true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def put(path: Path, content: bytes) -> None:
    """Make a file the way producers of queues do: write it elsewhere, then rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent.parent / f"temporary-{os.getpid()}"
    temporary.write_bytes(content)
    temporary.rename(path)


def objects(server: S3Endpoint, bucket: str) -> dict[str, bytes]:
    """What is in a bucket."""
    client = server.client()
    found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {item["Key"]: client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in found}


def test_s3_uploader(example: Callable[[str], Path], s3: S3Endpoint) -> None:
    """Files of a dated spool arrive under their paths, and the spool is empty afterwards."""
    place = example("s3-uploader")
    (command,) = prepare(place, environment(place, s3))
    path = place / "base_dir/bedroom/2020/13/29/6/46-topic.dat"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"measured")
    os.utime(path, (time.time() - 60, time.time() - 60))
    done = type_in(place, environment(place, s3), command)
    assert done.returncode == 0, done.stderr
    assert "INFO - base_dir/bedroom/2020/13/29/6/46-topic.dat has been uploaded to bucket." in done.stderr
    found = objects(s3, "bucket")
    assert found.pop("bedroom/2020/13/29/6/46-topic.dat") == b"measured"
    assert list(found) == ["bedroom/2020/11/29/20/46-topic.dat"]
    assert list((place / "base_dir").iterdir()) == []


def test_zc_s3uploadqueue(example: Callable[[str], Path], s3: S3Endpoint) -> None:
    """A queue's URL-encoded names become keys, by the daemon and inside another program."""
    place = example("zc.s3uploadqueue")
    (command,) = prepare(place, environment(place, s3))
    with watching(place, environment(place, s3), command):
        put(place / "test/2012-06-14%2F01.txt", b"first")
        wait_until(lambda: list((place / "test").iterdir()) == [])
    assert objects(s3, "testbucket")["2012-06-14/01.txt"] == b"first"

    put(place / "test/2012-06-14%2F02.txt", b"second")
    program = subprocess.Popen(
        [sys.executable, "embedded.py"],
        cwd=place,
        env=environment(place, s3),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: list((place / "test").iterdir()) == [])
    program.communicate(b"\n", timeout=30)
    assert program.returncode == 0
    assert objects(s3, "testbucket")["2012-06-14/02.txt"] == b"second"


def test_jollyae(example: Callable[[str], Path], s3: S3Endpoint) -> None:
    """A file goes from incoming through working to completed, over an older object; a failure goes to failed."""
    place = example("jollyae")
    command, rehearsal = prepare(place, environment(place, s3))
    for key in ("doodad", "taken"):
        s3.client().put_object(Bucket="doodad-results", Key=key, Body=b"somebody else's")
    with watching(place, environment(place, s3), command):
        put(place / "incoming/doodad", b"result")
        put(place / "incoming/unfinished.part", b"half")
        wait_until((place / "completed/doodad").exists)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "on_conflict": "fail"}))
    with watching(place, environment(place, s3), command):
        put(place / "incoming/taken", b"ours")
        wait_until((place / "failed/taken").exists)
    with watching(place, environment(place, s3), rehearsal) as process:
        put(place / "incoming/rehearsed", b"shipped sooner or later")
        wait_until(lambda: not (place / "incoming/rehearsed").exists())
        assert process.poll() is None
    (place / "completed/rehearsed").unlink(missing_ok=True)
    (place / "incoming/rehearsed").unlink(missing_ok=True)
    s3.client().delete_object(Bucket="doodad-results", Key="rehearsed")
    assert (place / "completed/doodad").read_bytes() == b"result"
    assert (place / "failed/taken").read_bytes() == b"ours"
    assert [path.name for path in (place / "incoming").iterdir()] == ["unfinished.part"]
    assert list((place / "working").iterdir()) == []
    assert objects(s3, "doodad-results") == {"doodad": b"result", "taken": b"somebody else's"}
    grants = s3.client().get_object_acl(Bucket="doodad-results", Key="doodad")["Grants"]
    assert any("AllUsers" in grant["Grantee"].get("URI", "") for grant in grants)


def test_zeit_cds(example: Callable[[str], Path], tmp_path: Path) -> None:
    """New files of a filestore reach the FTP server and move to cur; a foreign lock file stops the export."""
    place = example("zeit.cds")
    (command,) = prepare(place, environment(place))
    (tmp_path / "ftp").mkdir()
    server = PyFtpServer(tmp_path / "ftp")
    try:
        config = json.loads((place / "config.json").read_text())
        config["destination"]["port"] = server.port
        (place / "config.json").write_text(json.dumps(config))
        variables = environment(place)
        put(place / "store/new/a-file", b"This is the A file")
        put(place / "store/new/b-file", b"This is the B file")
        done = type_in(place, variables, command)
        assert done.returncode == 0, done.stderr
        assert server.files() == {"a-file": b"This is the A file", "b-file": b"This is the B file"}
        assert sorted(path.name for path in (place / "store/cur").iterdir()) == ["a-file", "b-file"]
        assert list((place / "store/new").iterdir()) == []

        (server.root / "write").write_bytes(b"Lock file")
        put(place / "store/new/new-file", b"some new file")
        locked = type_in(place, variables, command)
        assert locked.returncode == 0, locked.stderr
        assert "'write' lockfile exists" in locked.stderr
        assert (place / "store/new/new-file").exists()
        assert (server.root / "write").read_bytes() == b"Lock file"
    finally:
        server.stop()


def test_s3(example: Callable[[str], Path], s3: S3Endpoint) -> None:
    """The two programs of the object library's document run as they are printed."""
    place = example("s3")
    settings = (place / "s3.yaml").read_text()
    settings = settings.replace("s3-us-west-2.amazonaws.com", s3.endpoint_url.removeprefix("http://"))
    settings = settings.replace("XXXXX", s3.access_key).replace("YYYYYYY", s3.secret_key)
    (place / "s3.yaml").write_text(settings + "    tls: false\n")
    variables = environment(place, AWS_DEFAULT_REGION="us-east-1", NO_PROXY="127.0.0.1")
    commands = printed(place)
    assert commands[1:] == ["python round_trip.py", "python metadata.py"]
    for command in commands:
        done = type_in(place, variables, command)
        assert done.returncode == 0, done.stderr
    assert (place / "example-from-s3").read_bytes() == b"content\n"
