"""What a command shows in a terminal, as a drawing: the command runs in a pseudo terminal, its screen becomes SVG."""

from __future__ import annotations

import fcntl
import html
import itertools
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pyte

CELL_WIDTH = 8.0
LINE_HEIGHT = 19
FONT_SIZE = 13.2
MARGIN = 16
BAR_HEIGHT = 30
LONGEST_PAUSE = 1.2
"""Seconds for which a recording stands still at most while the command works."""
SHORTEST_FRAME = 0.08
LAST_FRAME = 4.0

BACKGROUND, FOREGROUND = "#1b1f27", "#d8dee9"
COLOURS = {
    "black": "#4c566a",
    "red": "#ef7a85",
    "green": "#a3d39c",
    "brown": "#f0c674",
    "blue": "#81b1e0",
    "magenta": "#d29bd0",
    "cyan": "#7fcbd7",
    "white": "#e5e9f0",
    "brightblack": "#8490a3",
}


class Style(NamedTuple):
    """How a character looks."""

    colour: str
    bold: bool


Lines: TypeAlias = tuple[tuple[tuple[str, Style], ...], ...]
"""The lines of a screen, each as runs of characters of one style."""


class Frame(NamedTuple):
    """What was on the screen from a moment on."""

    at: float
    lines: Lines


class Terminal:
    """A terminal of a fixed width in which commands are typed one after the other; `frames` is what it showed."""

    def __init__(self, *, columns: int = 100, rows: int = 40, typing: float = 0.0) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.frames: list[Frame] = []
        self._stream = pyte.ByteStream(self.screen)
        self._typing = typing
        self._now = 0.0

    def run(
        self,
        command: Sequence[str],
        *,
        shown: str,
        environment: Mapping[str, str],
        directory: Path,
        instead: Mapping[str, str],
        expect: int = 0,
    ) -> None:
        """Type what is shown, run the command in its place, and watch until it ends.

        :param instead: what is shown in the place of some texts, the names of temporary directories for example.
        :raises RuntimeError: if it ends with another code than the expected one.
        """
        self._feed(b"\x1b[32m$\x1b[0m ")
        for letter in shown:
            self._feed(letter.encode(), after=self._typing)
        self._feed(b"\r\n", after=0.3 if self._typing else 0.0)
        code = self._watch(command, environment, directory, instead)
        if code != expect:
            raise RuntimeError(f"{shown} ended with {code}:\n" + "\n".join(self.screen.display).rstrip())

    def _watch(
        self, command: Sequence[str], environment: Mapping[str, str], directory: Path, instead: Mapping[str, str]
    ) -> int:
        master, slave = pty.openpty()
        size = struct.pack("HHHH", self.screen.lines, self.screen.columns, 0, 0)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=directory, start_new_session=True
        )
        os.close(slave)
        last = time.monotonic()
        while True:
            if select.select([master], [], [], 0.5)[0]:
                try:
                    data = os.read(master, 65536)
                except OSError:  # EIO: the last one who had the terminal open has closed it
                    break
                for text, other in instead.items():
                    data = data.replace(text.encode(), other.encode())
                now = time.monotonic()
                self._feed(data, after=min(now - last, LONGEST_PAUSE))
                last = now
        os.close(master)
        return process.wait()

    def _feed(self, data: bytes, after: float = 0.0) -> None:
        self._now += after
        self._stream.feed(data)
        self.frames.append(Frame(self._now, tuple(self._line(row) for row in range(self.screen.lines))))

    def _line(self, row: int) -> tuple[tuple[str, Style], ...]:
        cells = [self.screen.buffer[row][column] for column in range(self.screen.columns)]
        while cells and cells[-1].data == " ":
            cells.pop()
        grouped = itertools.groupby(cells, key=_style)
        return tuple(("".join(cell.data for cell in run), style) for style, run in grouped)


def _style(cell: Any) -> Style:
    colour = COLOURS.get(cell.fg) or (f"#{cell.fg}" if cell.fg not in ("default", "") else FOREGROUND)
    return Style(colour, cell.bold)


def still(terminal: Terminal, *, title: str) -> str:
    """The last screen."""
    lines = terminal.frames[-1].lines
    return _document(terminal, _height(lines), _drawn(lines), title=title, text=_text(lines))


def moving(terminal: Terminal, *, title: str) -> str:
    """All screens one after the other, again and again; who asked for less motion sees the last one."""
    frames = list(_thinned(terminal.frames))
    length = frames[-1].at + LAST_FRAME
    height = max(_height(frame.lines) for frame in frames)
    groups, styles = [], []
    for number, frame in enumerate(frames):
        begin = 100 * frame.at / length
        end = 100 * frames[number + 1].at / length if number + 1 < len(frames) else 100
        groups.append(f'<g class="frame" id="f{number}">{_drawn(frame.lines)}</g>')
        hidden = f"0%{{visibility:hidden}}{begin:.3f}%{{visibility:visible}}" if number else "0%{visibility:visible}"
        shown = f"{end:.3f}%,100%{{visibility:hidden}}" if end < 100 else "100%{visibility:visible}"
        styles.append(f"@keyframes k{number}{{{hidden}{shown}}}#f{number}{{animation-name:k{number}}}")
    last = len(frames) - 1
    still_rule = f"@media (prefers-reduced-motion){{.frame{{animation:none!important}}#f{last}{{visibility:visible}}}}"
    style = (
        f".frame{{visibility:hidden;animation-duration:{length:.2f}s;animation-timing-function:step-end;"
        f"animation-iteration-count:infinite}}{''.join(styles)}{still_rule}"
    )
    text = _text(frames[-1].lines)
    return _document(terminal, height, "".join(groups), title=title, text=text, style=style)


def _thinned(frames: list[Frame]) -> Iterator[Frame]:
    """Without screens that look like the one before, or that stood for too short a time to be seen."""
    kept: list[Frame] = []
    for frame in frames:
        if kept and frame.lines == kept[-1].lines:
            continue
        if kept and frame.at - kept[-1].at < SHORTEST_FRAME:
            kept[-1] = Frame(kept[-1].at, frame.lines)
        else:
            kept.append(frame)
    return iter(kept)


def _height(lines: Lines) -> int:
    used = max((number for number, line in enumerate(lines, 1) if line), default=1)
    return BAR_HEIGHT + used * LINE_HEIGHT + MARGIN


def _drawn(lines: Lines) -> str:
    drawn = []
    for number, line in enumerate(lines):
        column = 0
        for text, style in line:
            if text.strip():
                x = MARGIN + CELL_WIDTH * column
                y = BAR_HEIGHT + LINE_HEIGHT * number + 14
                bold = ' font-weight="bold"' if style.bold else ""
                drawn.append(
                    f'<text x="{x:g}" y="{y}" fill="{style.colour}"{bold} textLength="{CELL_WIDTH * len(text):g}">'
                    f"{html.escape(text, quote=False)}</text>"
                )
            column += len(text)
    return "".join(drawn)


def _text(lines: Lines) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lines).rstrip()


def _document(terminal: Terminal, height: int, body: str, *, title: str, text: str, style: str = "") -> str:
    width = 2 * MARGIN + CELL_WIDTH * terminal.screen.columns
    dots = "".join(
        f'<circle cx="{18 + 18 * number}" cy="15" r="5" fill="{colour}"/>'
        for number, colour in enumerate(("#e06c75", "#e5c07b", "#98c379"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" width="{width:g}" height="{height}" '
        f'role="img" aria-label="{html.escape(title)}">\n<title>{html.escape(title)}</title>\n'
        f"<desc>{html.escape(text, quote=False)}</desc>\n"
        f"<style>text{{font:{FONT_SIZE}px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;white-space:pre}}"
        f"{style}</style>\n"
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>{dots}\n{body}\n</svg>\n'
    )
