"""Reads the command line of jollyae: alone, or in a shell script, a unit of systemd or a recipe for a container."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from typing import Any

from s3_uploader.config.older.found import REPLACED, Older, absolute, ignored, relative, unknown

_NAME = re.compile(r"\bjollyae(\.py)?\b")
_OPTIONS = {"b": "bucket", "s": "base_dir", "i": "claim_dir", "d": "completed", "f": "failed", "a": "acl"}
_KEYS = {"completed": "move_to of on_success", "failed": "move_to of on_failure"}
_FLAGS = {"-r", "-R", "-n", "-v"}
_SIMULATED = "--random-no-upload-fail"
_ENDS_COMMAND = re.compile(r"[;&|<>()]+|[}`]")
"""Words that end a command in a shell."""
_ASSIGNMENT = re.compile(r"^[ \t]*(?:export[ \t]+|readonly[ \t]+)?([A-Za-z_]\w*)=(.*)$", re.MULTILINE)
_UNIT = re.compile(r"^[ \t]*(?:Exec[A-Za-z]+|command)[ \t]*=", re.MULTILINE)
"""A command in a unit of systemd or a file of supervisor, which replace words that begin with a percent sign."""
_SPECIFIER = re.compile(r"%(?:\(\w+\)s|[A-Za-z])")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
_MOST_NAMES = 200
"""The maximum number of places that are examined; a log that names the program on each line is not a script."""
_LONGEST = 1 << 15
"""Characters of a command."""


def of_jollyae(text: str) -> Older:
    """Translate the command that has the most options."""
    found, flags, commands = _command(text)
    most = f"There are {commands} such commands; only the first of those with the most options was taken over."
    notes = [most] if commands > 1 else []
    settings: dict[str, Any] = {"layout": "tree", "settle_seconds": 0}
    unread = []
    is_unit = _UNIT.search(text) is not None
    for name, value in list(found.items()):
        key = _KEYS.get(name, name)
        if "$" in value or "`" in value:
            unread.append(unknown(key, "a shell would compute it", value))
        elif "'" in value or '"' in value:
            unread.append(unknown(key, "a quote is not closed", value))
        elif is_unit and _SPECIFIER.search(value.replace("%%", "")):
            unread.append(unknown(key, "the service manager would compute it", value))
        else:
            found[name] = value.replace("%%", "%") if is_unit else value
            continue
        del found[name]
        if name == "completed" and "-r" not in flags:
            settings["on_success"] = "keep"
    if settings.get("on_success") == "keep" and found.pop("claim_dir", None):
        unread.append("claim_dir was left out, because it cannot be used while shipped files are kept.")
    for name in ("bucket", "acl"):
        if name in found:
            settings[name] = found[name]
    for name in ("base_dir", "claim_dir"):
        if name in found:
            settings[name] = absolute(found[name])
    if "claim_dir" in settings:
        notes.append(
            "What it left in claim_dir is not shipped from there. When it has stopped, move these files back to "
            "base_dir."
        )
    if "completed" in found and "-r" not in flags:
        settings["on_success"] = {"move_to": absolute(found["completed"])}
    if "-R" in flags:
        settings["on_failure"] = "delete"
        notes.append("on_failure is delete, as with -R. A file that the destination refuses is deleted and lost.")
    elif "failed" in found and absolute(found["failed"]) != settings.get("base_dir"):
        settings["on_failure"] = {"move_to": absolute(found["failed"])}
    if "-n" in flags:
        notes.append("Instead of -n, use `run --dry-run`.")
    simulated = {flag for flag in flags if len(flag) > len("--") and _SIMULATED.startswith(flag)}
    if simulated:
        notes.append(f"Instead of {_SIMULATED}, use `--simulate-failures`.")
    notes += relative(found.get(name) for name in ("base_dir", "claim_dir", "completed", "failed"))
    notes += [*ignored(flags - _FLAGS - simulated), "It ran until it was stopped: use `watch`.", REPLACED]
    return Older("jollyae", settings, notes, is_service=True, unread=unread)


def _command(text: str) -> tuple[dict[str, str], set[str], int]:
    """The options of the first of the commands with the most options, and how many different ones name a directory.

    The name may also stand in a comment, in a path, or in a command that ends the program.
    """
    variables = _variables(text)
    best: tuple[dict[str, str], set[str]] = {}, set()
    commands = set()  # several workers of one directory are started by the same command
    for match in itertools.islice(_NAME.finditer(text), _MOST_NAMES):
        begin = text.rfind("\n", 0, match.start()) + 1
        if len(_without_comment(text[begin : match.end()])) < match.end() - begin:
            continue
        words = _words(text, begin, match.end())
        options, flags = _options([_with_values(word, variables) for word in words])
        if len(options) + len(flags) > len(best[0]) + len(best[1]):
            best = options, flags
        if "base_dir" in options:
            commands.add((frozenset(options.items()), frozenset(flags)))
    return *best, len(commands)


def _options(words: list[str]) -> tuple[dict[str, str], set[str]]:
    """Options with a value, by what they mean here, and flags. Short ones may stand together: ``-vb bucket``."""
    found: dict[str, str] = {}
    flags = set()
    rest = iter(words)
    for word in rest:
        if _ENDS_COMMAND.fullmatch(word) or word == "--":
            break
        if word.startswith("--"):
            flags.add(word.partition("=")[0])
        elif word.startswith("-"):
            for position, letter in enumerate(word[1:], start=1):
                if letter in _OPTIONS:
                    found[_OPTIONS[letter]] = word[position + 1 :].removeprefix("=") or next(rest, "")
                    break
                flags.add(f"-{letter}")
    return {name: value for name, value in found.items() if value}, flags


def _words(text: str, begin: int, start: int) -> list[str]:
    """The words after the name of the program. Lines that end in a backslash continue.

    :param begin: where the line of the name begins.
    :param start: where the name ends.
    """
    end = text.find("\n", start)
    line = text[begin : end if end >= 0 else len(text)]
    listed = _listed(line)
    if listed is not None:
        return listed
    command = ""
    for part in text[start : start + _LONGEST].splitlines():
        bare = _without_comment(part).rstrip()
        command += bare.removesuffix("\\") + " "
        # In the manual of jollyae a comment may follow the backslash, and a line may consist of a comment.
        if bare and not bare.endswith("\\"):
            break
    try:
        # Parentheses are words of a shell, but not in supervisor's %(ENV_HOME)s.
        lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|<>" if _SPECIFIER.search(command) else ";&|<>()")
        lexer.whitespace_split = True
        lexer.commenters = ""
        return list(lexer)
    except ValueError:  # a quote that is not closed
        return command.split()


def _listed(line: str) -> list[str] | None:
    """The words of a command that is written as a list in JSON, as in a recipe for a container."""
    begin, end = line.find("["), line.rfind("]")
    if not 0 <= begin < end:
        return None
    try:
        words = json.loads(line[begin : end + 1])
    except (ValueError, RecursionError):
        return None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def _without_comment(line: str) -> str:
    """A line of a shell script without its comment: from a number sign at the beginning of a word, outside quotes."""
    quote = ""
    before = " "
    for position, letter in enumerate(line):
        if letter == "#" and not quote and before.isspace():
            return line[:position]
        if before == "\\" and quote != "'":
            before = letter if letter.isspace() else ""  # its manual has comments after backslash and space
            continue
        if letter == quote:
            quote = ""
        elif letter in "'\"" and not quote:
            quote = letter
        before = letter
    return line


def _variables(text: str) -> dict[str, str]:
    """The variables of a script that have a plain value."""
    found = {}
    for name, value in _ASSIGNMENT.findall(text):
        try:
            words = shlex.split(_without_comment(value))
        except ValueError:
            continue
        if len(words) == 1 and "$" not in value and "`" not in value:
            found[name] = words[0]
        else:
            found.pop(name, None)
    return found


def _with_values(word: str, variables: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], found[0]), word)
