"""``watch`` at a terminal: it says what it watches and how it ends, and ends with its terminal, but for nohup."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.site import COMMAND, Site
from tests.servers.process import wait_until


class Terminal:
    """A terminal with a program that was started at it, as its foreground."""

    def __init__(self, site: Site, *command: str) -> None:
        site.write_config()
        self._master, slave = pty.openpty()

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command,
            cwd=site.home,
            env={**site.environment, "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=take_terminal,
        )
        os.close(slave)
        self.shown = ""

    def see(self, text: str, seconds: float = 20.0) -> None:
        """Wait until something is shown."""
        until = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < until, f"{text!r} is not in {self.shown!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self.shown += os.read(self._master, 65536).decode()

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def close(self) -> None:
        """Close the window."""
        os.close(self._master)
        self._master = -1

    def end(self) -> None:
        """End what is left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._master >= 0:
            os.close(self._master)


@pytest.fixture
def at_terminal(site: Site, request: pytest.FixtureRequest) -> Callable[..., Terminal]:
    """Starts a program at a terminal of its own."""
    site.ship_to_directory()
    site.settings["layout"] = "tree"

    def start(*command: str) -> Terminal:
        terminal = Terminal(site, *command)
        request.addfinalizer(terminal.end)
        return terminal

    return start


def test_the_first_line_says_what_and_until_when(site: Site, at_terminal: Callable[..., Terminal]) -> None:
    """Who has started it knows at once that it works, and how to end it; Ctrl-C ends it in good order."""
    terminal = at_terminal(str(COMMAND), "watch", str(site.config_file))
    terminal.see("\n")
    assert f"Watching {site.spool} for files to ship, until Ctrl-C." in terminal.shown.splitlines()[0]
    terminal.press(b"\x03")
    assert terminal.process.wait(20) == 130


def test_the_end_of_its_terminal_is_its_end(site: Site, at_terminal: Callable[..., Terminal]) -> None:
    """A closed window is no reload: nobody would know of a program that stays behind."""
    directory = site.place / "conf.d"
    directory.mkdir()
    site.write_config()
    (directory / "one.json").write_bytes(site.config_file.read_bytes())
    for target in (site.config_file, directory):
        terminal = at_terminal(str(COMMAND), "watch", str(target))
        terminal.see("until Ctrl-C")
        terminal.close()
        assert terminal.process.wait(20) == 129


def test_a_reload_at_a_terminal_is_a_reload(site: Site, at_terminal: Callable[..., Terminal]) -> None:
    """SIGHUP from somebody else, while the terminal is there, has the configuration read anew."""
    terminal = at_terminal(str(COMMAND), "watch", str(site.config_file))
    terminal.see("until Ctrl-C")
    os.kill(terminal.process.pid, signal.SIGHUP)
    terminal.see("has been reloaded")
    assert terminal.process.poll() is None


def test_nohup_outlives_its_terminal(site: Site, at_terminal: Callable[..., Terminal]) -> None:
    """Who starts it with nohup wants it to stay, and reads in its output how it is ended."""
    log = site.place / "log"
    terminal = at_terminal("/bin/sh", "-c", f"exec nohup {COMMAND} watch {site.config_file} >{log} 2>&1")
    wait_for(log, f"kill {terminal.process.pid}")
    terminal.close()
    time.sleep(0.5)
    site.file("x")
    wait_for(log, "has been uploaded")
    assert terminal.process.poll() is None
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(20) == 143


def wait_for(log: Path, text: str) -> None:
    """Wait until a text stands in a file."""
    wait_until(lambda: log.exists() and text in log.read_text(), what=text)
