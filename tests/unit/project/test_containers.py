"""The recipe of the image and the demo in containers: what they name is there, and nobody is root."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from s3_uploader import config

ROOT = Path(__file__).resolve().parents[3]
INSTRUCTIONS = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "STOPSIGNAL", "USER", "VOLUME"}


def instructions() -> list[tuple[str, str]]:
    """The instructions of the recipe, each with its arguments on one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


@pytest.fixture
def services() -> dict[str, Any]:
    """The services of the demo."""
    demo = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert set(demo) == {"services", "volumes"}
    found = demo["services"]
    assert isinstance(found, dict)
    return found


def test_the_recipe_is_whole() -> None:
    """Every instruction is one, the last stage runs as somebody, and its command is the program's."""
    found = instructions()
    assert {word for word, _ in found} == INSTRUCTIONS
    last = dict(found[max(number for number, (word, _) in enumerate(found) if word == "FROM") :])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert json.loads(last["ENTRYPOINT"])[0].endswith("/s3-uploader-cli")
    assert json.loads(last["CMD"]) == ["watch", "/config/config.json"]
    assert shlex.split(last["ENV"])[0] == "STATE_DIRECTORY=/state"


def test_what_is_installed_reaches_the_build() -> None:
    """Everything is ignored but what the installation reads, and all of that is there."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    for line in lines[1:-1]:
        assert (ROOT / line.removeprefix("!")).exists(), line
    assert {"!s3_uploader", "!setup.py", "!pyproject.toml", "!README.md", "!LICENSE"} <= set(lines)


def test_the_demo_waits_for_what_it_needs(services: dict[str, Any]) -> None:
    """Each service that another one waits for is there, and ends or is started; none has to be healthy.

    Older tools know no health of a service, and start one that waits for another only if that one waits for none.
    """
    for service in services.values():
        assert ("image" in service) != ("build" in service)
        for name, condition in service.get("depends_on", {}).items():
            assert condition["condition"] != "service_healthy"
            assert "depends_on" not in services[name]


def test_every_tool_finds_the_recipe(services: dict[str, Any]) -> None:
    """Another name is what docker looks for by itself; it reads what to ignore from a file that all tools know."""
    build = services["uploader"]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).samefile(ROOT / "Containerfile")
    assert (ROOT / ".dockerignore").exists()
    for line in (ROOT / "docs" / "how-to" / "containers.md").read_text().splitlines():
        assert "docker build" not in line or "--file Containerfile" in line


def test_the_uploader_of_the_demo_is_locked_in(services: dict[str, Any]) -> None:
    """It is not root and writes only into its volumes; its configuration is one."""
    uploader = services["uploader"]
    assert uploader["read_only"] is True
    assert uploader["user"] != "0:0"
    assert uploader["cap_drop"] == ["ALL"]
    places = {volume.split(":")[1]: volume.split(":")[0] for volume in uploader["volumes"]}
    loaded = config.load(str(ROOT / places["/config/config.json"]))
    assert loaded.base_dir in places
