"""Makes the pictures of `docs/images` anew: the real command, against a real S3 server on this machine.

``python docs/record.py`` makes all of them, ``python docs/record.py check.svg`` only this one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs import terminal
from tests.servers.base import S3Endpoint
from tests.servers.swift_s3 import SwiftServer

IMAGES = Path(__file__).with_name("images")
COMMAND = str(Path(sys.executable).with_name("s3-uploader-cli"))
LOCATIONS = ("bathroom", "bedroom", "kitchen")
BUCKET = "my-bucket"
HOME = "/home/you"
"""What the pictures show in the place of the temporary directory in which they are made."""


class Studio:
    """A spool in a directory of its own, and the server that it is shipped to."""

    def __init__(self, place: Path, endpoint: S3Endpoint) -> None:
        self.place = place
        self.endpoint = endpoint
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(place),
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            **endpoint.environment(),
        }
        self.configure()

    def configure(self, **settings: object) -> None:
        """Write the configuration; a setting that is ``None`` is left out."""
        wanted = {"base_dir": "spool", "bucket": self.endpoint.bucket, "state_dir": "state"} | settings
        given = {key: value for key, value in wanted.items() if value is not None}
        (self.place / "config.json").write_text(json.dumps(given, indent=4))

    def produce(self, *, minutes: int, size: int, age: float = 3600) -> list[Path]:
        """Files of so many minutes for each location."""
        made = []
        for minute in range(minutes):
            moment = time.time() - age - 60 * minute
            for location in LOCATIONS:
                name = time.strftime("%Y/%m/%d/%H/%M-air.dat", time.gmtime(moment))
                path = self.place / "spool" / location / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(os.urandom(size))
                os.utime(path, (moment, moment))
                made.append(path)
        return made

    def type(self, screen: terminal.Terminal, arguments: str, *, expect: int = 0) -> None:
        """Type the command with its arguments."""
        screen.run(
            [COMMAND, *arguments.split()],
            shown=f"s3-uploader-cli {arguments}",
            environment=self.environment,
            directory=self.place,
            instead={str(self.place): HOME},
            expect=expect,
        )


def check(studio: Studio) -> str:
    """What `check` says of a bucket."""
    studio.produce(minutes=1, size=64)
    screen = terminal.Terminal()
    studio.type(screen, "check config.json")
    return terminal.still(screen, title="s3-uploader-cli check: what the bucket can do")


def dry_run(studio: Studio) -> str:
    """A spool with files that are ready, one that is too young and one that is still open."""
    ready = studio.produce(minutes=2, size=300)
    fresh = ready[0].with_name("59-light.dat")
    fresh.write_bytes(b"21.5\n")
    screen = terminal.Terminal(columns=110)
    with ready[1].open("ab"):
        studio.type(screen, "run config.json --dry-run")
    return terminal.still(screen, title="s3-uploader-cli run --dry-run: what would be shipped, and what waits and why")


def status(studio: Studio) -> str:
    """A spool that waits, with a file whose key is taken by other content."""
    first = studio.produce(minutes=1, size=400)[0]
    key = str(first.relative_to(studio.place / "spool"))
    studio.endpoint.client().put_object(Bucket=studio.endpoint.bucket, Key=key, Body=b"something else")
    unseen = terminal.Terminal()
    studio.type(unseen, "run config.json", expect=1)
    studio.produce(minutes=4, size=400, age=600)
    screen = terminal.Terminal()
    studio.type(screen, "status config.json", expect=STATUS_EXIT_CODE)
    return terminal.still(screen, title="s3-uploader-cli status: what waits, what fails and why, and the last runs")


def run(studio: Studio) -> str:
    """A run with its progress bar, and what it left in the ledger."""
    studio.configure(max_bandwidth=600_000)
    studio.produce(minutes=12, size=80_000)
    screen = terminal.Terminal(columns=106, rows=20, typing=0.05)
    studio.type(screen, "config.json")
    studio.type(screen, "history config.json --limit 5")
    return terminal.moving(screen, title="A run with its progress bar, and its history")


def first(studio: Studio) -> str:
    """All of it at a glance, without a movement: files go, they are remembered, and all is well."""
    studio.produce(minutes=1, size=80_000)
    screen = terminal.Terminal(columns=84, rows=20)
    studio.type(screen, "config.json")
    studio.type(screen, "history config.json")
    return terminal.still(screen, title="A run, and what it has shipped")


STATUS_EXIT_CODE = 0
SCENES: dict[str, Callable[[Studio], str]] = {
    "check.svg": check,
    "dry-run.svg": dry_run,
    "first.svg": first,
    "run.svg": run,
    "status.svg": status,
}


def main(names: list[str]) -> int:
    """Make the pictures of these names, or all."""
    IMAGES.mkdir(exist_ok=True)
    for name in names or SCENES:
        with SwiftServer() as server, TemporaryDirectory() as place:
            server.client().create_bucket(Bucket=BUCKET)
            picture = SCENES[name](Studio(Path(place), server.endpoint.replace(bucket=BUCKET)))
        (IMAGES / name).write_text(picture, encoding="utf-8")
        print(f"docs/images/{name}: {len(picture) / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
