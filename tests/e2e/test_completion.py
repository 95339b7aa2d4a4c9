"""Shells complete the command: commands, options, and of files only configurations."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.site import COMMAND, bare_environment
from tests.servers.debian import require
from tests.servers.fixtures import or_skip

_ANSWER_SECONDS = 30.0


class Terminal:
    """An interactive shell at a terminal, as a person has it."""

    def __init__(self, arguments: list[str], place: Path) -> None:
        environment = bare_environment(place) | {"TERM": "dumb", "PATH": f"{COMMAND.parent}:/usr/bin:/bin"}
        pid, self._terminal = pty.fork()
        if pid == 0:
            os.chdir(place)
            os.execvpe(arguments[0], arguments, environment)
        self._pid = pid
        self.seen = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until a text is seen; what was seen up to it is forgotten."""
        until = time.monotonic() + _ANSWER_SECONDS
        while text not in self.seen:
            assert time.monotonic() < until, f"no {text!r} in {self.seen!r}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                self.seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(self._terminal, 4096).decode())
        self.seen = self.seen.partition(text)[2]

    def close(self) -> None:
        """Hang up."""
        os.close(self._terminal)
        os.waitpid(self._pid, 0)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with two configurations, one of them in a directory, and other files."""
    (tmp_path / "my-config.json").touch()
    (tmp_path / "my-notes.txt").touch()
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "den.json").touch()
    return tmp_path


@pytest.fixture(params=["bash", "zsh"])
def terminal(request: pytest.FixtureRequest, place: Path) -> Iterator[Terminal]:
    """A shell that has read what the command prints for it."""
    shell = request.param
    or_skip(lambda: require(shell))
    arguments = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    opened = Terminal(arguments, place)
    if shell == "zsh":
        opened.type("autoload -U compinit && compinit -u -D; zstyle ':completion:*' menu no\n")
    opened.type(f'eval "$(s3-uploader-cli completion {shell})"; echo "is ""ready"\n')
    opened.wait_for("is ready")
    yield opened
    opened.close()


def test_completion_at_a_terminal(terminal: Terminal) -> None:
    """The tabulator key completes a command, an option of it, a choice and a configuration."""
    for begun, completed in (
        ("s3-uploader-cli sta", "tus "),
        ("--js", "on "),
        ("my-", "config.json "),
        ("\x15s3-uploader-cli con", "f.d/"),
        ("d", "en.json "),
        ("--max", "-runtime "),
        ("\x15s3-uploader-cli units --kind wa", "tch "),
    ):
        terminal.type(begun + "\t")
        terminal.wait_for(completed)


def test_completion_in_fish(place: Path) -> None:
    """Fish completes the same, with what the options mean."""
    or_skip(lambda: require("fish"))
    environment = bare_environment(place) | {"PATH": f"{COMMAND.parent}:/usr/bin:/bin"}

    def completed(line: str) -> list[str]:
        answer = subprocess.run(
            ["fish", "--no-config", "-c", f"s3-uploader-cli completion fish | source; complete -C '{line}'"],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return answer.stdout.splitlines()

    assert [line.partition("\t")[0] for line in completed("s3-uploader-cli sta")] == ["status"]
    assert completed("s3-uploader-cli my-config.json --dry")[0].startswith("--dry-run\tPrint what")
    assert completed("s3-uploader-cli check my-") == ["my-config.json"]
    assert completed("s3-uploader-cli check conf.d/") == ["conf.d/den.json"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_ones_that_shells_can_read(shell: str) -> None:
    """No shell complains about its script."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    script = subprocess.run([COMMAND, "completion", shell], capture_output=True, text=True, check=True).stdout
    read = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")
