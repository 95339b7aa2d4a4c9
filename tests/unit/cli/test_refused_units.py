"""The command ``units``: what it refuses to write, what it warns of, and what it makes for spools that differ."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from s3_uploader.cli import units as commands
from s3_uploader.cli.arguments import UnitOptions
from s3_uploader.cli.units import units
from s3_uploader.core.errors import ConfigError, UsageProblem
from s3_uploader.deployment.account import SpoolFacts


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
    """A unit that was made without the values of its service may lack permissions; whoever makes it is told."""
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
        with pytest.raises(ConfigError, match=f"share: /4 needs a number K, and {starter} provides none") as refused:
            units(config_file, UnitOptions(kind=kind))
        assert "--set share=K/4" in str(refused.value)
        assert ("JOB_COMPLETION_INDEX=K in " in str(refused.value)) == (starter == "systemd")

    def test_each_file_of_a_directory_is_named(self, config_file: str) -> None:
        """The sentence says where the share stands, and how to name it."""
        with pytest.raises(ConfigError, match=r"readings.json: share: /4 needs .* set it with --set share=K/4"):
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
        with pytest.raises(ConfigError, match="and cron provides none"):
            units(config_file, UnitOptions(kind="cron"))

    def test_a_number_that_is_no_share(self, config_file: str) -> None:
        """The machines are counted from 0."""
        (Path(config_file).parent / "environment").write_text("JOB_COMPLETION_INDEX=4\n")
        with pytest.raises(ConfigError, match="JOB_COMPLETION_INDEX is 4, and 4/4 is not a share of the files"):
            units(config_file, UnitOptions())

    def test_the_number_of_this_shell_is_nobody_elses(self, config_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A task of an array that writes units does not lend them its number."""
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
        with pytest.raises(ConfigError, match="and systemd provides none"):
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

    @pytest.mark.parametrize("kind", ["timer", "cron"])
    def test_an_endpoint_that_only_this_shell_knows(
        self, config_file: str, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Runs that lack it would offer the files and the name of the key to Amazon."""
        monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.com")
        options = UnitOptions(kind=kind, settings=("share=1/4",))
        assert units(config_file, options) == 0
        assert "AWS_ENDPOINT_URL is set here, but not for" in capsys.readouterr().err
        endpoint = UnitOptions(kind=kind, settings=("share=1/4", "endpoint_url=https://s3.example.com"))
        assert units(config_file, endpoint) == 0
        assert "AWS_ENDPOINT_URL" not in capsys.readouterr().err

    def test_a_directory_that_only_the_file_names_can_be_written(
        self, config_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The permissions of a service follow from what it will read."""
        settings = f"S3_UPLOADER_SHARE=0/4\nS3_UPLOADER_STATE_DIR={tmp_path}/state\n"
        (tmp_path / "environment").write_text(settings)
        assert units(config_file, UnitOptions()) == 0
        assert f"\nRequiresMountsFor={tmp_path}/spool {tmp_path}/state\n" in capsys.readouterr().out


class TestWhatIsBesideTheConfiguration:
    """Keys and variables of a service lie beside its configuration; whoever cannot have them is told."""

    @pytest.fixture
    def files(self, config_file: str) -> Path:
        """The directory of a configuration with keys and variables that only root may read."""
        place = Path(config_file).parent
        for name, text in (("credentials", "[default]\n"), ("environment", "AWS_REGION=eu-north-1\n")):
            (place / name).write_text(text)
            (place / name).chmod(0o600)
        return place

    @pytest.mark.parametrize("kind", ["cron", "crontab"])
    def test_cron_does_not_take_them(
        self, files: Path, config_file: str, kind: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Only systemd passes both files on. A run of cron that lacks them finds no keys, and another region."""
        options = UnitOptions(kind=kind, settings=("share=1/4",))
        assert units(config_file, options) == 0
        printed = capsys.readouterr().err
        assert f"WARNING: The runs of cron do not use {files}/credentials. Name it with --credentials" in printed
        assert f"WARNING: The runs of cron do not use {files}/environment. Set what it sets" in printed
        assert units(config_file, msgspec.structs.replace(options, credentials=f"{files}/credentials")) == 0
        printed = capsys.readouterr().err
        assert "/credentials." not in printed
        assert units(config_file, msgspec.structs.replace(options, kind="timer")) == 0
        assert "do not use" not in capsys.readouterr().err

    @pytest.mark.skipif(os.geteuid() != 0, reason="names another user than the owner of the files")
    def test_what_the_user_cannot_read(self, files: Path, config_file: str, capsys: pytest.CaptureFixture[str]) -> None:
        """An included file is read by every run; a file with secrets only by those of cron, since root passes it on."""
        config = Path(config_file)
        (files / "all.json").write_text('{"client_certificate_file": "' + str(files / "client.pem") + '"}')
        (files / "all.json").chmod(0o600)
        (files / "client.pem").write_text("")
        (files / "client.pem").chmod(0o600)
        config.write_text(json.dumps({**json.loads(config.read_text()), "share": "1/4", "$include": "all.json"}))
        options = UnitOptions(user="daemon", force=True, credentials=f"{files}/credentials")
        assert units(config_file, options) == 0
        printed = capsys.readouterr().err
        assert f"WARNING: The user daemon cannot read {files}/all.json. Nothing can be uploaded until" in printed
        assert "client.pem" not in printed
        assert units(config_file, msgspec.structs.replace(options, kind="cron")) == 0
        printed = capsys.readouterr().err
        for name in ("all.json", "client.pem", "credentials"):
            assert f"WARNING: The user daemon cannot read {files}/{name}. Nothing can be uploaded until" in printed

    @pytest.mark.parametrize(("directory", "place"), [("s3-uploader", "s3-uploader/"), ("s3-uploader.d", "")])
    def test_of_a_directory(
        self, tmp_path: Path, directory: str, place: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Those of /etc/s3-uploader lie in it: /etc/environment is the system's. Those of conf.d lie beside it."""
        (tmp_path / "spool").mkdir()
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "den.json").write_text(
            json.dumps({"base_dir": str(tmp_path / "spool"), "bucket": "readings"})
        )
        assert units(str(tmp_path / directory), UnitOptions()) == 0
        printed = capsys.readouterr().out
        assert f"LoadCredential=aws:{tmp_path}/{place}credentials\n" in printed
        assert f"EnvironmentFile=-{tmp_path}/{place}environment\n" in printed


@pytest.mark.parametrize("directory", ["/etc/s3-uploader", "/etc/s3-uploader.d"])
def test_the_environment_of_the_system_is_not_that_of_a_service(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there on every Debian, with what was meant for logins."""
    monkeypatch.setattr(commands, "is_directory", lambda path: True)
    monkeypatch.setattr("os.path.isfile", lambda path: True)
    assert commands._beside(directory, "environment") == f"{directory}/environment"
    assert commands._beside("/etc/s3-uploader/conf.d", "environment") == "/etc/s3-uploader/environment"


class TestOneUnitForSeveralSpools:
    """What a unit says holds for all of its spools, and so they get several where it must not."""

    @pytest.fixture
    def spools(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A directory of two configurations, whose spools belong to two users."""
        place = tmp_path / "conf.d"
        place.mkdir()
        users = {"attic": "daemon", "kitchen": "games"}
        for name in users:
            (tmp_path / name).mkdir()
            (place / f"{name}.json").write_text(json.dumps({"base_dir": str(tmp_path / name), "bucket": "readings"}))
        monkeypatch.setattr(
            "s3_uploader.deployment.account.facts_of",
            lambda spools: SpoolFacts(owner=users[os.path.basename(spools[0])]),
        )
        return place

    def test_a_client_certificate_is_not_presented_for_other_spools(
        self, spools: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The variable that names it would be wrong for a spool without one: its runs would end with exit code 2."""
        monkeypatch.setattr("s3_uploader.deployment.account.facts_of", lambda spools: SpoolFacts(owner="daemon"))
        path = spools / "attic.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "client_certificate_file": "/etc/client.pem"}))
        assert units(str(spools), UnitOptions(as_json=True)) == 0
        made = json.loads(capsys.readouterr().out)["units"]
        services = [each["files"][0]["content"] for each in made]
        assert len(services) == 2
        for service in services:
            assert ("CLIENT_CERTIFICATE_FILE" in service) == ("attic.json" in service)
            assert "attic.json" not in service or "kitchen.json" not in service

    def test_users_do_not_take_a_state_directory_from_one_another(
        self, spools: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Systemd gives it to the user of the service that starts, under the feet of the other one."""
        assert units(str(spools), UnitOptions()) == 0
        for path in spools.iterdir():
            path.write_text(json.dumps({**json.loads(path.read_text()), "state_dir": "/var/lib/s3-uploader"}))
        with pytest.raises(UsageProblem, match="would have one state directory, /var/lib/s3-uploader, which systemd"):
            units(str(spools), UnitOptions())
        assert units(str(spools), UnitOptions(kind="cron")) == 0
        assert units(str(spools), UnitOptions(user="daemon", force=True)) == 0
        (spools / "attic.json").write_text((spools / "attic.json").read_text().replace("s3-uploader", "s3-uploader-2"))
        assert units(str(spools), UnitOptions()) == 0
        capsys.readouterr()


class TestWhatAServiceReaches:
    """Everything that a run needs is visible to its service."""

    def test_included_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A file of defaults beside the configuration, in a directory that a service does not see otherwise."""
        (tmp_path / "spool").mkdir()
        (tmp_path / "common").mkdir()
        (tmp_path / "common" / "all.json").write_text('{"$include": "more.json", "bucket": "readings"}')
        (tmp_path / "common" / "more.json").write_text('{"bucket": "other"}')
        (tmp_path / "own").mkdir()
        path = tmp_path / "own" / "den.json"
        path.write_text(json.dumps({"$include": "../common/all.json", "base_dir": str(tmp_path / "spool")}))
        assert units(str(path), UnitOptions()) == 0
        printed = capsys.readouterr().out
        assert f"\nBindReadOnlyPaths={tmp_path}/common/all.json\n" in printed
        assert f"\nBindReadOnlyPaths={tmp_path}/common/more.json\n" in printed

    def test_a_proxy(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A service that was allowed nothing but the address of its endpoint could not reach the proxy on the way."""
        (tmp_path / "spool").mkdir()
        path = tmp_path / "den.json"
        settings = {"base_dir": str(tmp_path / "spool"), "bucket": "readings", "endpoint_url": "http://10.1.2.3:9000"}
        path.write_text(json.dumps(settings))
        assert units(str(path), UnitOptions()) == 0
        assert "IPAddressAllow=10.1.2.3\n" in capsys.readouterr().out
        (tmp_path / "environment").write_text("http_proxy=http://proxy.example.com:3128\n")
        assert units(str(path), UnitOptions()) == 0
        assert "IPAddress" not in capsys.readouterr().out


class TestTheNextSteps:
    """Whoever types the commands that are printed has a service that works."""

    def next_steps(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, **settings: str) -> list[str]:
        """The commands for a spool that does not exist yet."""
        path = tmp_path / "den.json"
        path.write_text(json.dumps({"base_dir": str(tmp_path / "my spool"), "bucket": "readings", **settings}))
        assert units(str(path), UnitOptions(kind=kind, as_json=True, user="nobody-yet")) == 0
        return list(json.loads(capsys.readouterr().out)["next"])

    def test_a_spool_belongs_to_the_user_of_the_service(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Made by root it would be root's, and nothing could be removed from it."""
        steps = self.next_steps(tmp_path, capsys, "timer")
        assert steps[:2] == [
            "useradd --system --no-create-home --shell /usr/sbin/nologin nobody-yet",
            f"install -d -o nobody-yet '{tmp_path}/my spool'",
        ]

    def test_a_user_of_cron_has_a_place_for_the_ledger(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Without a home directory each run would end with exit code 2."""
        assert self.next_steps(tmp_path, capsys, "cron")[0] == (
            "useradd --system --create-home --home-dir /var/lib/nobody-yet --shell /usr/sbin/nologin nobody-yet"
        )
        steps = self.next_steps(tmp_path, capsys, "cron", state_dir="/var/lib/not-there/yet")
        assert "--no-create-home" in steps[0]
        assert steps[-1] == "install -d -o nobody-yet -m 700 /var/lib/not-there/yet"

    def test_a_user_of_cron_without_a_home(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A system user that is there already gets no home; somebody is told to name another place."""
        monkeypatch.setattr("s3_uploader.deployment.account.home_of", lambda user: str(tmp_path / "gone"))
        (tmp_path / "spool").mkdir()
        (tmp_path / "den.json").write_text(json.dumps({"base_dir": str(tmp_path / "spool"), "bucket": "readings"}))
        assert units(str(tmp_path / "den.json"), UnitOptions(kind="cron")) == 0
        assert "has no home directory" in capsys.readouterr().err
        assert units(str(tmp_path / "den.json"), UnitOptions()) == 0
        assert "has no home directory" not in capsys.readouterr().err

    def test_a_user_without_a_name(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Cron ignores a file that names a user by its number; systemd takes it."""
        (tmp_path / "spool").mkdir()
        (tmp_path / "den.json").write_text(json.dumps({"base_dir": str(tmp_path / "spool"), "bucket": "readings"}))
        with pytest.raises(UsageProblem, match="The user 54321 has no name, and cron takes only names"):
            units(str(tmp_path / "den.json"), UnitOptions(kind="cron", user="54321", force=True))
        assert units(str(tmp_path / "den.json"), UnitOptions(user="54321", force=True)) == 0
        assert "User=54321" in capsys.readouterr().out
