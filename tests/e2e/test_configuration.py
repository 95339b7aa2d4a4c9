"""A configuration with problems: all of them at once, in words, exit code 2, and nothing is touched."""

from __future__ import annotations

import pytest

from tests.e2e.site import COMMAND, Finished, Site, without_privileges

COMMANDS = ("run", "watch", "check", "status", "history")


def with_text(site: Site, text: bytes, *arguments: str) -> Finished:
    """Run with a configuration file of exactly this content."""
    site.config_file.write_bytes(text)
    return site.run(command=[str(COMMAND), *arguments, str(site.config_file)], timeout=20)


def refused(finished: Finished) -> list[str]:
    """The lines of a refusal, which is never a traceback."""
    assert finished.code == 2, finished.stderr
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""
    assert finished.stderr.isprintable() or finished.stderr.replace("\n", "").isprintable()
    return finished.stderr.splitlines()


def test_every_problem_is_named_at_once(site: Site) -> None:
    """Nine mistakes give nine lines, each with its key, and misspelt keys with the one that was meant."""
    lines = refused(
        with_text(
            site,
            b"""{"base_dir": 3, "bucket": "", "settle_seconds": -1, "timezone": "Mars/Olympus", "bucet": "x",
            "max_concurency": 3, "on_success": "burn", "engine": "steam", "drain_seconds": "long"}""",
        )
    )
    assert lines[0] == f"{site.config_file}: 9 problems"
    text = "\n".join(lines[1:])
    for key in ("base_dir", "bucket", "settle_seconds", "timezone", "on_success", "engine", "drain_seconds"):
        assert f"  {key}: " in text
    assert "bucet: is not a known key; did you mean bucket?" in text
    assert "max_concurency: is not a known key; did you mean max_concurrency?" in text
    assert len(lines) == 10


NO_CONFIGURATIONS = {
    "empty": b"",
    "cut": b"{",
    "list": b"[]",
    "null": b"null",
    "nothing": b"{}",
    "utf-16": b"\xff\xfe{}",
    "comma": b'{"base_dir": "/nowhere", "bucket": "b",,}',
    "nul": b'{"base_dir": "a\\u0000b", "bucket": "b"}',
    "deep": b"[" * 100_000,
    "twice": b'{"base_dir": "/nowhere", "bucket": "a", "s3_bucket": "b"}',
    "type": b'{"base_dir": "/nowhere", "destination": {"type": "tape"}}',
    "escapes": b'{"base_dir": "/nowhere", "bucket": "b", "\\u001b[31m\\n": 1}',
}


def test_each_file_that_is_no_configuration_is_refused_in_words(site: Site) -> None:
    """Of a directory of them each is named, with its reason, on lines that can be printed."""
    directory = site.place / "conf.d"
    directory.mkdir()
    for name, text in NO_CONFIGURATIONS.items():
        (directory / f"{name}.json").write_bytes(text)
    lines = refused(site.run(command=[str(COMMAND), str(directory)], timeout=20))
    for name in NO_CONFIGURATIONS:
        (number,) = (number for number, line in enumerate(lines) if line.startswith(f"{directory}/{name}.json: "))
        assert lines[number].endswith((": 1 problem", ": 2 problems"))
        assert lines[number + 1].startswith("  ")


@pytest.mark.rotated("text")
@pytest.mark.parametrize("text", NO_CONFIGURATIONS.values(), ids=NO_CONFIGURATIONS)
def test_what_is_no_configuration_is_refused_in_words(site: Site, text: bytes) -> None:
    """Whatever the file holds, the answer is a sentence that names the file, on lines that can be printed."""
    assert refused(with_text(site, text))[0].startswith(f"{site.config_file}: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_it_alike(site: Site, command: str) -> None:
    """Each command that reads a configuration reports its problems in the same form."""
    lines = refused(with_text(site, b'{"base_dir": "/nowhere", "bucket": "b", "colour": "blue"}', command))
    assert lines == [f"{site.config_file}: 1 problem", "  colour: is not a known key"]


@pytest.mark.rotated("command")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_configuration_file_that_cannot_be_read(site: Site, command: str) -> None:
    """A configuration that is missing, or a directory in which there is none, is named with the reason."""
    missing = str(site.place / "missing.json")
    assert refused(site.run(command=[str(COMMAND), command, missing])) == [
        f"{missing}: 1 problem",
        "  cannot be read: No such file or directory",
        "  `s3-uploader-cli init` writes a configuration.",
    ]
    empty = site.place / "empty"
    empty.mkdir()
    reason = refused(site.run(command=[str(COMMAND), command, str(empty)]))[-1]
    assert "contains no configuration file" in reason or "directory" in reason


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "--no-such-option", "c.json"),
        ("run", "--max-runtime", "soon", "c.json"),
        ("run", "--max-runtime", "0", "c.json"),
        ("run", "-v", "-q", "c.json"),
        ("run", "--log-format", "xml", "c.json"),
        ("history", "--format", "pdf", "c.json"),
        ("status", "--interval", "3", "c.json"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_exit_code_2(site: Site, arguments: tuple[str, ...]) -> None:
    """A mistake on the command line is explained, with exit code 2."""
    lines = refused(site.run(command=[str(COMMAND), *arguments]))
    assert any(line.startswith("Error: ") for line in lines)


def test_history_with_a_time_that_is_none(site: Site) -> None:
    """A time that cannot be understood is named, with how to write one."""
    site.ship_to_directory()
    for command in ("history", "audit"):
        (line,) = refused(site.run(command, "--since", "1h", "--until", "2h"))
        assert "ends before it begins" in line
    both = site.run("history", "--json", "--format", "csv")
    assert (both.code, "contradict each other" in both.stdout) == (2, True)
    lines = refused(site.run("history", "--since", "yesteryear"))
    (line,) = lines
    assert line.startswith(
        "'yesteryear' is not a time. Write it like 2026-11-20, 2026-11-20T15:04, yesterday, monday, 2h"
    )


class TestSpoolThatCannotBeUsed:
    def run(self, site: Site, base_dir: str, **options: object) -> str:
        """The sentence with which a run over this spool is refused."""
        site.ship_to_directory()
        site.settings["base_dir"] = base_dir
        (sentence,) = refused(site.run(**options))  # type: ignore[arg-type]
        return sentence

    def test_missing(self, site: Site) -> None:
        """A base_dir that does not exist is refused, and not created."""
        missing = site.place / "missing"
        assert self.run(site, str(missing)).startswith(f"base_dir {missing} does not exist.")
        assert not missing.exists()

    def test_file(self, site: Site) -> None:
        """A base_dir that is a file is refused."""
        file = site.place / "file"
        file.touch()
        assert self.run(site, str(file)).startswith(f"base_dir {file} is not a directory.")

    @pytest.mark.rotated("suffix")
    @pytest.mark.parametrize("suffix", ["", "/", "/.", "//", "/./"])
    def test_link(self, site: Site, suffix: str) -> None:
        """A base_dir that is a link is refused, however it is written, and the directory behind it is named."""
        link = site.place / "link"
        link.symlink_to(site.spool)
        file = site.file("bedroom/2020/11/29/20/46-topic.dat")
        assert self.run(site, f"{link}{suffix}") == (
            f"base_dir {link} is a symbolic link. Give the directory itself: {site.spool}."
        )
        assert file.exists()

    @pytest.mark.rotated("root")
    @pytest.mark.parametrize("root", ["/", "//", "/.", "/../", "/proc/self/root"])
    def test_root(self, site: Site, root: str) -> None:
        """The root of the file system is refused, however it is written."""
        assert "base_dir " in self.run(site, root)

    @pytest.mark.rotated("mode")
    @pytest.mark.parametrize("mode", [0, 0o400, 0o600], ids=oct)
    def test_unreadable(self, site: Site, mode: int) -> None:
        """A base_dir that may not be read or searched is refused with the reason."""
        site.spool.chmod(mode)
        try:
            sentence = self.run(site, str(site.spool), prefix=without_privileges())
        finally:
            site.spool.chmod(0o700)
        assert sentence.startswith(f"base_dir {site.spool} cannot be read: Permission denied.")

    def test_the_state_directory_itself(self, site: Site) -> None:
        """A spool that holds the state directory is refused: its ledger would be shipped, and removed."""
        site.settings["state_dir"] = str(site.spool)
        assert "lies in the spool" in self.run(site, str(site.spool))
        site.settings["state_dir"] = str(site.spool / "a" / "b")
        assert "lies in the spool" in self.run(site, str(site.spool))

    def test_home_as_the_spool(self, site: Site) -> None:
        """A spool that holds the state directory by its default is refused too."""
        assert "lies in the spool" in self.run(site, str(site.home))

    @pytest.mark.rotated("key")
    @pytest.mark.parametrize("key", ["on_success", "on_failure"])
    def test_a_directory_in_claim_dir(self, site: Site, key: str) -> None:
        """Files are not moved to where those lie that are being uploaded, and would look like left-overs."""
        claims = site.place / "claims"
        for target in (claims, claims / "done"):
            site.settings |= {"claim_dir": str(claims), key: {"move_to": str(target)}}
            sentence = self.run(site, str(site.spool))
            assert f"{key}: {target} lies in claim_dir {claims}" in sentence

    def test_the_destination_in_the_spool(self, site: Site) -> None:
        """A destination directory within the spool, or around it, is refused."""
        for place in (site.spool, site.spool.parent):
            site.settings["destination"] = {"type": "local", "path": str(place)}
            (sentence,) = refused(site.run())
            assert "contain one another" in sentence

    def test_move_to_in_the_spool(self, site: Site) -> None:
        """A directory to which shipped files are moved may not lie in the spool."""
        site.settings["on_success"] = {"move_to": str(site.spool / "done")}
        assert "would be shipped again" in self.run(site, str(site.spool))
