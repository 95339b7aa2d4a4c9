"""Who takes part, and with which flags: as they come, and tuned as far as is reasonable.

Tuned means what a person would set who has read the manual and wants speed, and still wants to know that the objects
are there. Looking up each key first and once more afterwards is switched off, since this program does neither: what its
PUT is answered proves as much.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.servers.base import S3Endpoint

OURS = "s3_uploader"
EARLIER = "earlier s3_uploader"
BOTO3_LOOP = "boto3 loop"
OBSTORE_LOOP = "obstore loop"
SENDFILE_LOOP = "sendfile loop"
"""Sends the bytes and nothing else: as fast as the server allows."""
_LOOP_SCRIPT = Path(__file__).with_name("plain_loop.py")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run's work.

    :param spool: the directory to empty.
    :param state: a directory for what the program keeps from run to run.
    :param fresh_seconds: files younger than this are to be left alone.
    """

    spool: str
    state: str
    endpoint: S3Endpoint
    fresh_seconds: int = 0


@dataclass(frozen=True, kw_only=True)
class Command:
    """What is executed: the words after the program's path, and variables of the environment."""

    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)


class Contestant(Protocol):
    """A program that can do the whole job.

    ``name`` is the program, ``variant`` tells apart the ways in which it takes part, ``flags`` are for people. With
    ``leaves_fresh`` it can leave files that are too young.
    """

    @property
    def name(self) -> str:
        """The program."""

    @property
    def variant(self) -> str:
        """How it takes part, e.g. ``tuned``."""

    @property
    def flags(self) -> str:
        """What is not its default."""

    @property
    def leaves_fresh(self) -> bool:
        """Whether it can leave files alone that are too young."""

    def command(self, job: Job) -> Command:
        """How it is started."""

    def accepts(self, code: int, *, files: int) -> bool:
        """Whether the exit code says that the job was done."""


@dataclass(frozen=True, kw_only=True)
class Ours:
    """The program itself, with the configuration that a new user writes; ``settings`` are added to it."""

    variant: str = "default"
    settings: Mapping[str, object] = field(default_factory=dict)
    state_in_memory: bool = False
    name: str = OURS
    leaves_fresh: bool = True

    @property
    def flags(self) -> str:
        """The settings beside ``base_dir`` and ``bucket``."""
        shown = {**self.settings, **({"state_dir": "/dev/shm/…"} if self.state_in_memory else {})}
        return json.dumps(shown, ensure_ascii=False) if shown else ""

    def command(self, job: Job) -> Command:
        """Write the configuration; the command only names it."""
        state = job.state if not self.state_in_memory else os.path.join("/dev/shm", os.path.basename(job.state))
        configuration = os.path.join(job.state, "config.json")
        with open(configuration, "w", encoding="utf-8") as file:
            json.dump({"base_dir": job.spool, "bucket": job.endpoint.bucket, "state_dir": state, **self.settings}, file)
        return Command(arguments=[configuration])

    def accepts(self, code: int, *, files: int) -> bool:
        """0 means that everything that was ready is shipped."""
        return code == 0


@dataclass(frozen=True, kw_only=True)
class Rclone:
    """``rclone move``."""

    variant: str = "default"
    options: tuple[str, ...] = ()
    name: str = "rclone move"
    leaves_fresh: bool = True

    @property
    def flags(self) -> str:
        """The options."""
        return shlex.join(self.options)

    def command(self, job: Job) -> Command:
        """With the destination given whole, since there is no configuration file."""
        where = ["--s3-endpoint", job.endpoint.endpoint_url, "--config", ""]
        if job.endpoint.ca_bundle is not None:
            where += ["--ca-cert", str(job.endpoint.ca_bundle)]
        fresh = ["--min-age", f"{job.fresh_seconds}s"] if job.fresh_seconds else []
        remote = f":s3,provider=Other,env_auth:{job.endpoint.bucket}"
        return Command(arguments=["move", job.spool, remote, *where, *fresh, *self.options])

    def accepts(self, code: int, *, files: int) -> bool:
        """0."""
        return code == 0


@dataclass(frozen=True, kw_only=True)
class S5cmd:
    """``s5cmd mv``."""

    variant: str = "default"
    options: tuple[str, ...] = ()
    move_options: tuple[str, ...] = ()
    name: str = "s5cmd mv"
    leaves_fresh: bool = False

    @property
    def flags(self) -> str:
        """The options before and behind ``mv``."""
        return shlex.join([*self.options, *(["mv", *self.move_options] if self.move_options else [])])

    def command(self, job: Job) -> Command:
        """It does not know ``AWS_ENDPOINT_URL``; what it trusts is a matter of Go's library."""
        target = f"s3://{job.endpoint.bucket}/"
        where = ["--endpoint-url", job.endpoint.endpoint_url]
        trust = {"SSL_CERT_FILE": str(job.endpoint.ca_bundle)} if job.endpoint.ca_bundle is not None else {}
        return Command(
            arguments=[*where, *self.options, "mv", *self.move_options, job.spool + "/", target], environment=trust
        )

    def accepts(self, code: int, *, files: int) -> bool:
        """An empty directory is an error to it."""
        return code == 0 or (code == 1 and files == 0)


@dataclass(frozen=True, kw_only=True)
class AwsCli:
    """``aws s3 mv --recursive``; what it calls settings are lines of its configuration file."""

    variant: str = "default"
    options: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    name: str = "aws s3 mv"
    leaves_fresh: bool = False

    @property
    def flags(self) -> str:
        """The options, and the settings in the file."""
        return "; ".join(filter(None, [shlex.join(self.options), ", ".join(self.settings)]))

    def command(self, job: Job) -> Command:
        """Write the configuration file, if there are settings."""
        environment = {}
        if self.settings:
            environment["AWS_CONFIG_FILE"] = os.path.join(job.state, "aws-config")
            with open(environment["AWS_CONFIG_FILE"], "w", encoding="utf-8") as file:
                file.write("\n  ".join(["[default]\ns3 =", *self.settings]) + "\n")
        target = f"s3://{job.endpoint.bucket}/"
        return Command(arguments=["s3", "mv", job.spool, target, "--recursive", *self.options], environment=environment)

    def accepts(self, code: int, *, files: int) -> bool:
        """0."""
        return code == 0


@dataclass(frozen=True, kw_only=True)
class Loop:
    """``os.walk``, one call for each file, ``os.remove``, on some threads: what one writes in an afternoon."""

    variant: str = "8 threads"
    name: str = BOTO3_LOOP
    flags: str = ""
    leaves_fresh: bool = True

    def command(self, job: Job) -> Command:
        """The script is run by an interpreter that has the library."""
        library = self.name.removesuffix(" loop")
        return Command(
            arguments=[str(_LOOP_SCRIPT), library, job.spool, job.endpoint.bucket, str(job.fresh_seconds)],
        )

    def accepts(self, code: int, *, files: int) -> bool:
        """0."""
        return code == 0


def beside_us() -> dict[str, Path]:
    """The programs of the environment that runs the benchmarks, by the contestants' names."""
    python = Path(sys.executable)
    return {OURS: python.with_name("s3-uploader-cli"), BOTO3_LOOP: python, SENDFILE_LOOP: python}


def label(contestant: Contestant) -> str:
    """Name and variant, unique within a case."""
    return f"{contestant.name}, {contestant.variant}"
