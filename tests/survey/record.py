"""The record of what was observed, committed beside the tests: a page of the documentation is made from it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from tests.survey.observation import Observation

PATH = Path(__file__).with_name("record.json")


class Recorded(msgspec.Struct, frozen=True):
    """What was observed of one server, by engine or protocol, and the version of it."""

    version: str
    engines: dict[str, Observation]


def read() -> dict[str, Recorded]:
    """Everything by the name of the server."""
    return msgspec.json.decode(PATH.read_bytes(), type=dict[str, Recorded])


def write(recorded: dict[str, Recorded]) -> None:
    """Replace the record."""
    values = msgspec.to_builtins({name: recorded[name] for name in sorted(recorded)})
    PATH.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
