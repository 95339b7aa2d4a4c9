"""The pictures of terminals show what a terminal would show."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from docs.terminal import COLOURS, Terminal, moving, still

SVG = "{http://www.w3.org/2000/svg}"


def recorded(tmp_path: Path, program: str, *, typing: float = 0.0) -> Terminal:
    """A terminal in which a Python program was run."""
    terminal = Terminal(columns=40, rows=5, typing=typing)
    command = [sys.executable, "-c", program]
    terminal.run(command, shown="shown", environment={}, directory=tmp_path, instead={"secret": "public"})
    return terminal


def test_a_picture_holds_text_and_colour_as_the_terminal_showed_them(tmp_path: Path) -> None:
    """Colours, characters that XML would misread, and substitutes arrive in the drawing and in its description."""
    terminal = recorded(tmp_path, "print('\\033[31mred\\033[0m <plain> secret')")
    root = ElementTree.fromstring(still(terminal, title="A title"))
    drawn = {(text.text, text.get("fill")) for text in root.iter(f"{SVG}text")}
    assert ("red", COLOURS["red"]) in drawn
    assert root.findtext(f"{SVG}desc") == "$ shown\nred <plain> public"
    assert root.findtext(f"{SVG}title") == "A title"


def test_what_was_overwritten_is_seen_only_while_it_stood_there(tmp_path: Path) -> None:
    """A recording has a frame for each screen that differs, and describes the last one."""
    terminal = recorded(tmp_path, "print('first', end='\\r'); print('other')", typing=0.2)
    root = ElementTree.fromstring(moving(terminal, title="A title"))
    frames = [group for group in root.iter(f"{SVG}g") if group.get("class") == "frame"]
    assert len(frames) > len("shown")
    assert root.findtext(f"{SVG}desc") == "$ shown\nother"


def test_a_command_that_goes_wrong_makes_no_picture(tmp_path: Path) -> None:
    """Nobody publishes a picture of a failure by accident."""
    with pytest.raises(RuntimeError, match="shown ended with 3"):
        recorded(tmp_path, "raise SystemExit(3)")
