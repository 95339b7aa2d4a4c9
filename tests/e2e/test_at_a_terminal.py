"""What the commands show at a terminal: a progress bar, colours, and reasons for people."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time

import pytest

from tests.e2e.site import COMMAND, Site
from tests.e2e.test_commands import filled


@pytest.fixture
def waiting(site: Site) -> Site:
    """Four files that are ready, one that is fresh, and one that is outside the layout."""
    return filled(site)


class TestTerminal:
    def on_a_terminal(self, site: Site, *arguments: str, columns: int = 80, **variables: str) -> tuple[int, str]:
        """Exit code and output of a run in a terminal so many columns wide."""
        site.write_config()
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            [COMMAND, *arguments[:1], site.config_file, *arguments[1:]],
            env={**site.environment, "TERM": "xterm", **variables},
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        shown = b""
        until = time.monotonic() + 30
        try:
            while time.monotonic() < until:
                try:
                    data = os.read(leader, 65536)
                except OSError:  # EIO: the other end is closed
                    break
                if not data:
                    break
                shown += data
            return process.wait(timeout=30), shown.decode()
        finally:
            process.kill()
            os.close(leader)

    def test_a_progress_bar(self, waiting: Site) -> None:
        """On a terminal a bar shows the progress, and the lines of the log are whole above it."""
        code, shown = self.on_a_terminal(waiting, "run", "-v")
        assert code == 0
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        assert plain.count(" has been uploaded to ") == 4
        assert "4/4" in plain or "100%" in plain, plain

    def test_no_progress_bar(self, waiting: Site) -> None:
        """--no-progress leaves it away, and then nothing moves the cursor."""
        code, shown = self.on_a_terminal(waiting, "run", "--no-progress")
        assert code == 0
        assert "\x1b" not in shown

    @pytest.mark.exhaustive  # TestLog.test_verbose
    def test_under_cron_there_is_none(self, waiting: Site) -> None:
        """Without a terminal there is no bar and no escape."""
        assert "\x1b" not in waiting.run().stderr

    @pytest.mark.rotated("columns")
    @pytest.mark.parametrize("columns", [1, 12, 40])
    def test_a_narrow_terminal(self, waiting: Site, columns: int) -> None:
        """A terminal of forty columns, or of one, is no reason to fail."""
        code, shown = self.on_a_terminal(waiting, "run", "--progress", columns=columns)
        assert code == 0
        assert "Traceback" not in shown
        assert waiting.run("history", "--format", "json").stdout.count("\n") == 4

    @pytest.mark.rotated("term")
    @pytest.mark.parametrize("term", ["dumb", "", "no-such-terminal"])
    def test_a_strange_terminal(self, waiting: Site, term: str) -> None:
        """A terminal that can do nothing is served with what it can do."""
        code, shown = self.on_a_terminal(waiting, "run", "--progress", TERM=term)
        assert code == 0
        assert "Traceback" not in shown

    def test_somebody_at_a_terminal_is_told_why_nothing_moved(self, site: Site) -> None:
        """Who tries the program by hand with a file made a second ago reads why it stayed."""
        site.ship_to_directory()
        code, shown = self.on_a_terminal(site)
        assert code == 0
        assert "There is no file in" in " ".join(shown.split())
        site.file("bedroom/2020/11/29/20/10-topic.dat", age=0)
        _, shown = self.on_a_terminal(site, columns=1000)
        assert "is too young, so that a later run ships it" in shown

    def test_check_in_colour(self, waiting: Site) -> None:
        """``check`` is coloured on a terminal, and not where NO_COLOR is set or the terminal would print the codes."""
        assert "\x1b[32mok" in self.on_a_terminal(waiting, "check")[1]
        assert "\x1b" not in self.on_a_terminal(waiting, "check", NO_COLOR="1")[1]
        assert "\x1b" not in self.on_a_terminal(waiting, "check", TERM="dumb")[1]
