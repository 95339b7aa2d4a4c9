"""The command ``units``: what it refuses to write, and what it warns of."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from s3_uploader.cli.arguments import UnitOptions
from s3_uploader.cli.units import units
from s3_uploader.core.errors import ConfigError


@pytest.fixture(autouse=True)
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that the units start; no scheduler says anything here."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "s3-uploader-cli").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "s3-uploader-cli").chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(tmp_path / "bin" / "s3-uploader-cli")])
    for name in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "S3_UPLOADER_SHARE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    """A configuration that all machines have in common: it says the number of shares."""
    spool = tmp_path / "spool"
    spool.mkdir()
    path = tmp_path / "readings.json"
    path.write_text(json.dumps({"base_dir": str(spool), "bucket": "readings", "share": "/4"}))
    return str(path)


def test_variables_that_only_root_may_read(
    config_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A unit that was made without the values of its service may lack rights; whoever makes it is told."""
    (tmp_path / "environment").write_text("S3_UPLOADER_STATE_DIR=/var/lib/elsewhere\n")
    may = os.access
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith("/environment") and may(path, mode))
    assert units(config_file, UnitOptions(settings=("share=2/4",))) == 0
    assert f"WARNING: {tmp_path}/environment cannot be read by this user." in capsys.readouterr().err
    assert units(config_file, UnitOptions(kind="cron", settings=("share=2/4",))) == 0
    assert "cannot be read" not in capsys.readouterr().err


class TestTheShareOfAMachine:
    """What a scheduler says to its tasks, nobody says to a service."""

    @pytest.mark.parametrize(
        ("kind", "starter"), [("timer", "systemd"), ("watch", "systemd"), ("cron", "cron"), ("crontab", "cron")]
    )
    def test_a_share_without_its_number_is_refused(self, config_file: str, kind: str, starter: str) -> None:
        """A service that ended with exit code 2 at each start would ship nothing."""
        with pytest.raises(ConfigError, match=f"share: /4 needs a number K, and {starter} gives none") as refused:
            units(config_file, UnitOptions(kind=kind))
        assert "--set share=K/4" in str(refused.value)
        assert ("JOB_COMPLETION_INDEX=K in " in str(refused.value)) == (starter == "systemd")

    def test_each_file_of_a_directory_is_named(self, config_file: str) -> None:
        """The sentence says where the share stands, and how to name it."""
        with pytest.raises(ConfigError, match=r"readings.json: share: /4 needs .* say it with --set share=K/4"):
            units(str(Path(config_file).parent), UnitOptions())

    @pytest.mark.parametrize("kind", ["timer", "watch", "cron", "crontab"])
    def test_the_number_on_the_command_line(
        self, config_file: str, kind: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The command of the unit has it."""
        assert units(config_file, UnitOptions(kind=kind, settings=("share=2/4",))) == 0
        assert f"--set share=2/4 {config_file}" in capsys.readouterr().out

    @pytest.mark.parametrize("line", ["JOB_COMPLETION_INDEX=2", 'S3_UPLOADER_SHARE="2/4"'])
    def test_the_number_in_the_environment_file(self, config_file: str, line: str) -> None:
        """The service gets it from there; cron reads no such file."""
        (Path(config_file).parent / "environment").write_text(f"# Of this machine\n{line}\n")
        assert units(config_file, UnitOptions()) == 0
        with pytest.raises(ConfigError, match="and cron gives none"):
            units(config_file, UnitOptions(kind="cron"))

    def test_a_number_that_is_no_share(self, config_file: str) -> None:
        """The machines are counted from 0."""
        (Path(config_file).parent / "environment").write_text("JOB_COMPLETION_INDEX=4\n")
        with pytest.raises(ConfigError, match="JOB_COMPLETION_INDEX is 4, and 4/4 is no share of the files"):
            units(config_file, UnitOptions())

    def test_the_number_of_this_shell_is_nobody_elses(self, config_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A task of an array that writes units does not lend them its number."""
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
        with pytest.raises(ConfigError, match="and systemd gives none"):
            units(config_file, UnitOptions())


class TestTheEnvironment:
    """A service has the variables of its file, and none of the shell that wrote it."""

    def test_a_key_that_only_this_shell_sets(
        self, config_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Whoever tries things out with variables is told that the service will not see them."""
        monkeypatch.setenv("S3_UPLOADER_SHARE", "1/4")
        assert units(config_file, UnitOptions()) == 0
        assert "WARNING: S3_UPLOADER_SHARE is set here, but not for the service." in capsys.readouterr().err
        (Path(config_file).parent / "environment").write_text("S3_UPLOADER_SHARE=1/4\n")
        assert units(config_file, UnitOptions()) == 0
        assert "S3_UPLOADER_SHARE" not in capsys.readouterr().err

    def test_a_directory_that_only_the_file_names_can_be_written(
        self, config_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The rights of a service follow from what it will read."""
        settings = f"S3_UPLOADER_SHARE=0/4\nS3_UPLOADER_STATE_DIR={tmp_path}/state\n"
        (tmp_path / "environment").write_text(settings)
        assert units(config_file, UnitOptions()) == 0
        assert f"\nRequiresMountsFor={tmp_path}/spool {tmp_path}/state\n" in capsys.readouterr().out
