"""What the pages tell people to type: the commands of their blocks, and those in the middle of a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = tuple(
    str(path.relative_to(ROOT))
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").glob("*/README.md")),
        *sorted((ROOT / "deploy").rglob("*.md")),
    )
)

TYPED = "console"
"""A block in which lines that begin with ``$`` are typed at a terminal; the others are what is printed then."""

SCRIPTS = frozenset({"sh", "bash", "zsh", "fish"})
"""Blocks that are a script, or lines of a shell's own file; the language is the shell."""

CRON = "cron"
"""What reads the lines of a crontab."""

SHOWN = frozenset({"text", "json", "js", "python", "yaml", "ini"})
"""Blocks in which nothing is typed: files, output, drawings. Lines of a crontab among them are commands too."""

_BLOCK = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_CRONTAB = re.compile(r"^(?:[\d*/,-]+ +){5}(\S.*)$", re.MULTILINE)
_WHOLE = re.compile(r"(?:venv/bin/)?s3-uploader-cli (?:.*[ /]?config\.json\b|schema\b|--version\b)")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str


class Command(NamedTuple):
    """A command as it is printed, and what reads it: a shell, or cron."""

    page: str
    line: int
    text: str
    shell: str = "bash"

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in its order."""
    text = (ROOT / page).read_text()
    return [
        Block(page, text.count("\n", 0, found.start()) + 2, found[2].strip(), _within(found[1], found[3]))
        for found in _BLOCK.finditer(text)
    ]


def typed(page: str) -> list[Command]:
    """What a page has people type at a terminal, in its order."""
    return [command for block in blocks(page) if block.language == TYPED for command in _typed(block)]


def commands(page: str) -> list[Command]:
    """Every command of a page's blocks: typed ones, scripts, and the lines of crontabs."""
    found: list[Command] = []
    for block in blocks(page):
        if block.language == TYPED:
            found += _typed(block)
        elif block.language in SCRIPTS:
            found.append(Command(page, block.line, block.text, shell=block.language))
        else:
            found += [
                Command(page, block.line, line[1].replace("\\%", "%"), shell=CRON)
                for line in _CRONTAB.finditer(block.text)
            ]
    return found


def in_sentences(page: str) -> list[Command]:
    """The commands in the text of a page that are whole: they name the configuration, if they take one."""
    # Blocks become empty lines, so that the numbers of lines stay.
    text = _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), (ROOT / page).read_text())
    return [
        Command(page, text.count("\n", 0, found.start()) + 1, found[1])
        for found in _INLINE.finditer(text)
        if _WHOLE.match(found[1]) and "…" not in found[1]
    ]


def _within(indent: str, text: str) -> str:
    """A block of a list, without the list's indentation."""
    return "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))


def _typed(block: Block) -> Iterator[Command]:
    lines = iter(enumerate(block.text.splitlines(), start=block.line))
    for number, line in lines:
        if not line.startswith("$ "):
            continue
        text = line.removeprefix("$ ")
        while text.endswith("\\"):
            text += "\n" + next(lines)[1]
        yield Command(block.page, number, text)
