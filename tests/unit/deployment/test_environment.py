"""The environment file of a service, read as systemd reads it."""

from __future__ import annotations

from pathlib import Path

from s3_uploader.deployment.environment import only_here, variables_in


def test_what_systemd_reads(tmp_path: Path) -> None:
    """Comments are none of the variables; quotes around a value are not part of it, and a line may be continued."""
    file = tmp_path / "environment"
    file.write_text(
        '# JOB_COMPLETION_INDEX=1\n; A=2\n\nnothing\nPLAIN=a b  \n QUOTED = "a \\" b" \nSINGLE=\'\\x\'\n'
        'JSON={"a": "b"}\nLONG=a\\\nb\nOPEN="a\nEMPTY=\n'
    )
    assert variables_in(str(file)) == {
        "PLAIN": "a b",
        "QUOTED": 'a " b',
        "SINGLE": "\\x",
        "JSON": '{"a": "b"}',
        "LONG": "ab",
        "OPEN": '"a',
        "EMPTY": "",
    }


def test_a_file_that_is_not_there_has_none(tmp_path: Path) -> None:
    """The file is optional."""
    assert variables_in(str(tmp_path / "environment")) == {}
    assert variables_in(str(tmp_path)) == {}


def test_what_only_this_shell_has() -> None:
    """A value that the service has otherwise is missing there as well as one that it has not at all."""
    assert only_here({"A": "1", "B": "2", "C": "3"}, {"A": "1", "B": "x"}, ["C", "B", "A", "D"]) == ["B", "C"]
