"""The files in `deploy/` for schedulers: what they start is what the command line takes, and their numbers agree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from s3_uploader.cli.commands import group
from s3_uploader.core.shares import parse

DEPLOY = Path(__file__).parents[3] / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def containers(value: Any) -> Iterator[dict[str, Any]]:
    """The containers of a manifest, however deep its template lies."""
    if isinstance(value, dict):
        yield from value.get("containers", [])
        for inner in value.values():
            yield from containers(inner)


def accepted(arguments: list[str]) -> None:
    """The command line is one that the program takes; nothing is run."""
    name, *others = arguments
    command = group.get_command(click.Context(group), name)
    assert command is not None, name
    command.make_context(name, others)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_what_kubernetes_starts(path: Path) -> None:
    """The arguments are those of a command, and every volume that is mounted is there."""
    manifest = yaml.safe_load(path.read_text())
    (container,) = containers(manifest)
    accepted([argument.replace("$(JOB_COMPLETION_INDEX)", "0") for argument in container["args"]])
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in volumes(manifest)}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_ledger_lies_in_a_volume(path: Path) -> None:
    """What a pod remembers is where the next one looks for it, and not in the place that the image has for it."""
    (container,) = containers(yaml.safe_load(path.read_text()))
    (state,) = (mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "state")
    assert {"name": "S3_UPLOADER_STATE_DIR", "value": state} in container["env"]


def volumes(value: Any) -> list[dict[str, Any]]:
    """The volumes of a manifest's pod."""
    if not isinstance(value, dict):
        return []
    if "volumes" in value:
        found: list[dict[str, Any]] = value["volumes"]
        return found
    return [volume for inner in value.values() for volume in volumes(inner)]


def test_every_share_has_a_pod() -> None:
    """The job has as many pods as its runs have shares."""
    job = yaml.safe_load((DEPLOY / "kubernetes/indexed-job.yaml").read_text())["spec"]
    (container,) = containers(job)
    share = container["args"][container["args"].index("--share") + 1]
    for index in (0, job["completions"] - 1):
        assert parse(share.replace("$(JOB_COMPLETION_INDEX)", str(index))).count == job["completions"]


def test_every_share_has_a_task() -> None:
    """The array counts from 0, and has as many tasks as its runs have shares."""
    script = (DEPLOY / "slurm/s3-uploader-array.sh").read_text()
    array = re.search(r"^#SBATCH --array=0-(\d+)$", script, re.MULTILINE)
    shares = re.search(r"^SHARES=(\d+)$", script, re.MULTILINE)
    assert array is not None
    assert shares is not None
    assert int(array[1]) + 1 == int(shares[1])
    line = script.strip().splitlines()[-1]
    words = line.replace('"', "").replace("$SHARES", shares[1]).replace("$CONFIG", "config.json").split()
    assert words[:2] == ["exec", "s3-uploader-cli"]
    accepted(words[2:])
