"""``status`` of a directory tells of each spool what is wrong, however narrow the terminal is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s3_uploader.cli import overview
from s3_uploader.cli.frame import FileOptions
from s3_uploader.cli.overview import Seen, overview_lines
from s3_uploader.cli.verdict import ATTENTION, OK, UNKNOWN

SEEN = [
    Seen(name="kitchen", verdict=UNKNOWN, error="The configuration cannot be read: no such file or directory."),
    Seen(name="attic", verdict=OK),
]


def test_one_line_where_there_is_room() -> None:
    """In a pipe, and in a wide terminal, each spool has one line."""
    assert len(overview_lines(SEEN, columns=None)) == len(overview_lines(SEEN, columns=200)) == 4


def test_what_is_wrong_is_broken_between_words() -> None:
    """In a narrow terminal the problem continues on the next line, and nothing of it is left out."""
    lines = overview_lines(SEEN, columns=30)
    assert max(map(len, lines)) <= 30
    assert SEEN[0].error in " ".join(line.strip() for line in lines)
    assert lines[-1] == "ok         attic"


def test_a_trouble_of_many_is_told_once() -> None:
    """At a terminal spools with the same trouble refer to the first of them; a line for programs has it all."""
    same = [Seen(name=name, verdict=UNKNOWN, error=SEEN[0].error) for name in ("attic", "cellar", "kitchen")]
    lines = overview_lines(same, columns=80)
    assert sum(SEEN[0].error in line for line in lines) == 1
    assert [line.split()[-2:] for line in lines[-2:]] == [["as", "attic"]] * 2
    assert sum(SEEN[0].error in line for line in overview_lines(same, columns=None)) == 3


@pytest.mark.parametrize(("term", "clears"), [("xterm", True), ("dumb", False), ("", False)])
def test_a_terminal_that_cannot_be_cleared(
    term: str, clears: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In an editor's terminal, for example, --watch prints one state below the other, without escape sequences."""

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("time.sleep", stop)
    assert overview.live(lambda: ["ok"]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("press Ctrl-C to stop\nok\n")
    assert ("\x1b" in shown) == clears


def test_two_configurations_of_one_spool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each alone is in order, and a run of the directory refuses both: that is said of both, as ``check`` does."""
    for name in ("attic", "cellar", "kitchen"):
        spool = tmp_path / ("one" if name != "kitchen" else "other")
        spool.mkdir(exist_ok=True)
        settings = {"base_dir": str(spool), "bucket": "b", "state_dir": str(tmp_path / "state")}
        (tmp_path / f"{name}.json").write_text(json.dumps(settings))
    seen = {each.name: each for each in overview.look_at_all(str(tmp_path), FileOptions())}
    sentence = (
        f"a run of the directory refuses it: base_dir: attic.json and cellar.json have the same path, {tmp_path}/one"
    )
    assert [seen[name].sentence for name in ("attic", "cellar", "kitchen")] == [sentence, sentence, ""]
    assert [seen[name].verdict for name in ("attic", "cellar", "kitchen")] == [ATTENTION, ATTENTION, OK]
    assert overview.overview(str(tmp_path), FileOptions(), exit_by_verdict=False) == 2
    assert capsys.readouterr().out.count(sentence) == 2
    first, *lines = overview.plugin_lines(list(seen.values()))
    assert "2 need attention, 1 ok: attic, cellar" in first
    assert lines == [f"{name}: WARNING - {sentence}" for name in ("attic", "cellar")]
