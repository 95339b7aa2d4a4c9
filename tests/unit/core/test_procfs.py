"""What is read from ``/proc``, and how it is shown."""

from __future__ import annotations

import pytest

from s3_uploader.core.procfs import command_line


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["cli", "run", "c.json"], "cli run c.json"),
        (["cli", "--set", "destination.password=x=y", "c.json"], "cli --set destination.password=… c.json"),
        (["cli", "--set=ping_url=https://hc/token", "c.json"], "cli --set=ping_url=… c.json"),
        (["cli", "--set"], "cli --set"),
        (["cli", "--set", "nothing"], "cli --set nothing"),
        (["curl", "https://user:pass@host/"], "curl https://…@host/"),
    ],
)
def test_a_command_line_is_shown_without_secrets(words: list[str], shown: str) -> None:
    """Neither the note of a lock nor a message repeats a value behind ``--set`` or a password in a URL."""
    assert command_line(words) == shown
