"""The command ``demo``: a spool, an S3 server inside this process, and runs of the real command. Needs no account."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from s3_uploader.cli.arguments import DemoOptions
from s3_uploader.cli.exit_codes import OK, SOME_FAILED
from s3_uploader.cli.output import print_lines, write_bytes
from s3_uploader.config.overrides import PREFIX
from s3_uploader.core.errors import EngineUnavailable
from s3_uploader.core.extras import installing
from s3_uploader.core.interpreter import python

_BUCKET = "demo-bucket"
_PROGRAM = "from s3_uploader.cli import main; sys.exit(main())"
_LOCATIONS = ("bathroom", "bedroom", "kitchen")
_TOPICS = ("humidity", "temperature")
_NOT_OURS = ("AWS_", PREFIX, "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""How variables begin that would lead the demo to a spool, a server or credentials that are not its own."""


def demo(options: DemoOptions) -> int:
    """Show a run of the real command; returns its exit code."""
    with _own_environment():
        server = _start_server()
        home = tempfile.mkdtemp(prefix="s3-uploader-demo-")
        try:
            return _show(home, server, keep=options.keep)
        finally:
            server.stop()
            if not options.keep:
                shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _own_environment() -> Iterator[None]:
    """Keep out what is set for real spools: the demo deletes what it has shipped, and its server forgets it."""
    before = dict(os.environ)
    for name in before:
        if name.upper().startswith(_NOT_OURS):
            del os.environ[name]
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _start_server() -> Any:
    import logging

    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        raise EngineUnavailable(
            "The demo needs an embedded S3 server, which is not installed.",
            hint=f"Install it: {installing('demo')}.",
        ) from None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    with contextlib.redirect_stdout(io.StringIO()):  # It prints that it starts.
        server.start()
    return server


def _show(home: str, server: Any, *, keep: bool) -> int:
    host, port = server.get_host_and_port()
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    client = _client(environment)
    client.create_bucket(Bucket=_BUCKET)
    spool = os.path.join(home, "spool")
    _produce(spool)
    config_file = os.path.join(home, "config.json")
    settings = {"base_dir": spool, "bucket": _BUCKET, "state_dir": os.path.join(home, "state")}
    with open(config_file, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(settings), indent=4))

    _say("A producer has written a spool; the last file of each location was written this minute:")
    print_lines(_tree(spool))
    _say("The configuration:")
    with open(config_file, encoding="utf-8") as file:
        print_lines(f"  {line}" for line in file.read().splitlines())
    _say("What cron starts every minute:")
    code = _command(environment, config_file)
    _say("What is in the bucket now:")
    objects = client.list_objects_v2(Bucket=_BUCKET).get("Contents", [])
    print_lines(f"  {item['Size']:6} bytes  {item['Key']}" for item in objects)
    _say("What is in the spool now: the files of this minute, which are left until they have settled.")
    print_lines(_tree(spool))
    _say("The history, from the ledger and without the cloud:")
    _command(environment, "history", config_file)
    if keep:
        _say(f"Kept in {home}. The server ends with this command.")
    expected = len(_LOCATIONS) * (3 * len(_TOPICS))
    if code != OK or len(objects) != expected:
        print(f"The demo went wrong: exit code {code}, {len(objects)} of {expected} objects.", file=sys.stderr)
        return code or SOME_FAILED
    return OK


def _client(environment: dict[str, str]) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(proxies={}, s3={"addressing_style": "path"}),
    )


def _produce(spool: str) -> None:
    """Write three settled files and one fresh file for each location."""
    now = time.time()
    for age in (7260, 3660, 180, 0):
        moment = time.gmtime(now - age)
        for location in _LOCATIONS:
            directory = os.path.join(spool, location, time.strftime("%Y/%m/%d/%H", moment))
            os.makedirs(directory, exist_ok=True)
            for topic in _TOPICS:
                path = os.path.join(directory, f"{moment.tm_min:02d}-{topic}.dat")
                with open(path, "wb") as file:
                    file.write(os.urandom(64 * (1 + len(topic))))
                os.utime(path, (now - age, now - age))


def _command(environment: dict[str, str], *arguments: str) -> int:
    shown = " ".join(os.path.basename(argument) for argument in arguments)
    print_lines([f"$ s3-uploader-cli {shown}"])
    write_bytes(b"")
    return subprocess.run(python(_PROGRAM, *arguments), env=environment, check=False).returncode


def _tree(spool: str) -> list[str]:
    paths = [
        os.path.relpath(os.path.join(directory, name), spool)
        for directory, names, files in os.walk(spool)
        for name in [*files, *([] if names or files else ["(empty)"])]
    ]
    return [f"  {path}" for path in sorted(paths)] or ["  (empty)"]


def _say(text: str) -> None:
    print_lines(["", text])
    write_bytes(b"")
