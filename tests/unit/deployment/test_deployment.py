"""Units and crontabs: what a configuration needs, as whom it runs, how it is written down."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from s3_uploader import config
from s3_uploader.cli import units
from s3_uploader.core.errors import UsageProblem
from s3_uploader.deployment import escaping, obstacles
from s3_uploader.deployment.account import Account, SpoolFacts, choose, facts_of, may_write
from s3_uploader.deployment.crontab import crontab
from s3_uploader.deployment.installing import UnitFile, install, is_as_written, sealed
from s3_uploader.deployment.needs import Needs, needs_of
from s3_uploader.deployment.permissions import Entry, obstacle, user_name
from s3_uploader.deployment.plan import Plan, minutes_of, name_of
from s3_uploader.deployment.systemd import run_service, timer, watch_service

OTHER = Account(user="producer", reason="Because.")
OWNER = Account(user="producer", sees_writers=True, reason="Because.")


def needs(**settings: Any) -> Needs:
    """What a configuration needs."""
    given = {"base_dir": "/spool/in", **settings}
    if "destination" not in given:
        given.setdefault("bucket", "bucket")
    return needs_of([config.from_mapping(given, source="test")], home="/home/producer")


def plan(account: Account = OTHER, **settings: Any) -> Plan:
    """A plan for a configuration; those of its fields that are given are set."""
    fields = {name: settings.pop(name) for name in list(settings) if name in Plan.__struct_fields__}
    return Plan(
        **{
            "name": "s3-uploader",
            "command": ("/usr/bin/s3-uploader-cli",),
            "program": ("/usr",),
            "source": "/etc/s3-uploader/config.json",
            "needs": needs(**settings),
            "account": account,
            "credentials": "/etc/s3-uploader/credentials",
            "is_given": False,
            "environment": "/etc/s3-uploader/environment",
            **fields,
        }
    )


def test_a_description_is_one_line_to_read() -> None:
    """Three spools are named; of thirty it is told how many there are."""
    several = [config.from_mapping({"base_dir": f"/spool/{n}", "bucket": "b"}, source="test") for n in range(30)]
    few, many = (needs_of(several[:count], home="/home/producer") for count in (3, 30))
    assert plan(needs=few).spools == "/spool/0, /spool/1, /spool/2"
    assert plan(needs=many).spools == "/spool/0, /spool/1, /spool/2 and 27 other spools"


class TestEscaping:
    def test_plain_paths_stay_as_they_are(self) -> None:
        """Nobody has to read quotes that mean nothing."""
        assert escaping.word("/var/spool/a-b_c.d") == "/var/spool/a-b_c.d"

    def test_words_of_systemd(self) -> None:
        """Blanks and quotes are quoted, backslashes and percent signs doubled, and dollars in commands."""
        assert escaping.word('/a b/"c"\\d/100%') == '"/a b/\\"c\\"\\\\d/100%%"'
        assert escaping.argument("/$HOME/x") == '"/$$HOME/x"'
        assert escaping.literal("/a b/100%") == "/a b/100%%"

    def test_bound_paths(self) -> None:
        """A colon would end the path; what cannot be written is refused."""
        assert escaping.bound("/home/a:b c") == '"/home/a\\:b c"'
        with pytest.raises(UsageProblem, match="cannot make"):
            escaping.bound("/home/it's")

    def test_words_of_cron(self) -> None:
        """The shell sees one word, and cron no end of the command."""
        assert escaping.shell_word("/a b/100%") == "'/a b/100\\%'"
        assert escaping.cron_value("/plain") == "/plain"
        assert escaping.cron_value("/a b") == '"/a b"'
        with pytest.raises(UsageProblem):
            escaping.cron_value("a'b\"c")

    @pytest.mark.parametrize("path", ["/a\nUser=root", "/a\x1b", "/\udc80"])
    def test_no_line_is_forged(self, path: str) -> None:
        """A name with a newline cannot add a setting."""
        with pytest.raises(UsageProblem, match="cannot be written"):
            escaping.word(path)


class TestNeeds:
    def test_only_the_spool(self) -> None:
        """The simplest configuration writes to its spool and to nothing else."""
        found = needs()
        assert found.written == ("/spool/in",)
        assert found.state == ""
        assert found.takes
        assert not found.leaves

    def test_what_is_renamed_between_is_one_place(self) -> None:
        """Claims and moved files of one file system are reached through one mount with the spool."""
        assert needs(claim_dir="/spool/claims", on_success={"move_to": "/spool/done"}).written == ("/spool",)

    def test_claims_need_a_place_in_common(self) -> None:
        """Claims that could not be renamed are refused at once, not at the first run."""
        with pytest.raises(UsageProblem, match="no directory in common"):
            needs(claim_dir="/claims")

    def test_a_copy_may_go_anywhere(self) -> None:
        """A target that has nothing in common with the spool is a place of its own."""
        assert needs(on_success={"move_to": "/done"}).written == ("/spool/in", "/done")

    def test_everything_else_that_is_written(self) -> None:
        """The metrics file's directory, the local archive and a state directory elsewhere."""
        found = needs(
            metrics_file="/m/x.prom", state_dir="/elsewhere", destination={"type": "local", "path": "/archive"}
        )
        assert found.written == ("/spool/in", "/m", "/archive", "/elsewhere")
        assert found.state is None

    def test_state_where_systemd_makes_it(self) -> None:
        """A state directory below /var/lib is systemd's to make."""
        assert needs(state_dir="/var/lib/s3/one").state == "s3/one"
        assert needs(state_dir="~/state").written == ("/spool/in", "/home/producer/state")

    def test_relative_paths(self) -> None:
        """A path that depends on where somebody stood is refused."""
        with pytest.raises(UsageProblem, match="relative"):
            needs(base_dir="spool")

    @pytest.mark.parametrize("base_dir", ["/", "//"])
    def test_the_whole_file_system(self, base_dir: str) -> None:
        """No service empties the root of the file system, as no run does."""
        with pytest.raises(UsageProblem, match="root of the file system"):
            needs(base_dir=base_dir)

    def test_addresses(self) -> None:
        """Only addresses can be allowed; with a name among them there is no telling."""
        assert needs(endpoint_url="http://127.0.0.1:9000").addresses == ("localhost",)
        assert needs(endpoint_url="http://10.1.2.3:9000", ping_url="http://[fd00::1]/x").addresses == (
            "10.1.2.3",
            "fd00::1",
        )
        assert needs(endpoint_url="http://minio.example").addresses is None
        assert needs().addresses is None
        assert needs(destination={"type": "local", "path": "/archive"}).addresses == ()


class TestAccount:
    def test_the_owner(self) -> None:
        """Files that only their owner may remove are removed by their owner, who needs no capability."""
        found = choose(needs(), SpoolFacts(owner="pi"))
        assert found.user == "pi"
        assert found.sees_writers

    def test_files_of_several(self) -> None:
        """Where files belong to others too, the owner of the spool cannot see their writers by itself."""
        assert not choose(needs(), SpoolFacts(owner="pi", owner_owns_all=False)).sees_writers

    def test_a_user_of_its_own(self) -> None:
        """It has one where anybody, or a group, may do what it does, and where it leaves nothing behind."""
        open_to_all = SpoolFacts(owner="pi", others_read=True, others_take=True)
        shared = SpoolFacts(owner="pi", group="sensors")
        readable = SpoolFacts(owner="pi", others_read=True)
        assert choose(needs(), open_to_all).user is None
        assert choose(needs(), shared).group == "sensors"
        assert choose(needs(on_success="keep"), readable).user is None
        assert choose(needs(), readable).user == "pi"
        assert choose(needs(metrics_file="/m/x.prom"), open_to_all).user == "pi"

    def test_no_spool_yet(self) -> None:
        """Without a spool to look at there is a name, and the reason says what that user needs."""
        found = choose(needs(), SpoolFacts(owner=None))
        assert found.user == "s3-uploader"
        assert "not exist yet" in found.reason

    def test_who_was_asked_for(self) -> None:
        """A user that is named is taken."""
        assert choose(needs(), SpoolFacts(owner="pi"), wanted="ada").user == "ada"

    def test_who_may_write(self, tmp_path: Path) -> None:
        """A directory belongs to root as a rule, and then its mode tells who else may write to it."""
        own = user_name(os.getuid())
        directory = str(tmp_path)
        tmp_path.chmod(0o755)
        assert may_write(own, directory)
        assert may_write("root", directory)
        assert may_write("no-such-user", directory)
        assert not may_write("nobody", directory)
        tmp_path.chmod(0o1777)
        assert may_write("nobody", directory)

    def test_metrics_that_cannot_be_written(self, tmp_path: Path) -> None:
        """That there would be no metrics is said before the service is installed."""
        tmp_path.chmod(0o755)
        account = Account(user="nobody", reason="Because.")
        made = plan(account, metrics_file=f"{tmp_path}/x.prom", credentials=os.devnull)
        (warning,) = [each for each in obstacles.obstacles(made, is_cron=False) if "metrics" in each]
        assert warning.startswith(f"The user nobody cannot write {tmp_path}, ")
        tmp_path.chmod(0o777)
        assert not [each for each in obstacles.obstacles(made, is_cron=False) if "metrics" in each]

    @pytest.mark.parametrize("user", ["nobody", None])
    def test_a_configuration_that_cannot_be_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str | None
    ) -> None:
        """That no run could begin is said before. A service does not see the directories above a file in a home."""
        monkeypatch.setattr(obstacles, "hides", lambda path: True)
        tmp_path.chmod(0o700)
        source = tmp_path / "config.json"
        source.touch()

        def warns(kind: str, path: Path) -> bool:
            made = plan(Account(user=user, reason="Because."), source=str(path), credentials=os.devnull)
            return any(f" cannot read {path}." in each for each in obstacles.obstacles(made, is_cron=kind == "cron"))

        source.chmod(0o600)
        assert warns("timer", source)
        assert warns("cron", source)
        source.chmod(0o644)
        assert not warns("timer", source)
        assert warns("cron", source)
        assert not warns("cron", Path("/etc/passwd"))

    def test_looking(self, tmp_path: Path) -> None:
        """Owner and permissions are those of the directories and files as they are."""
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "file").write_text("x")
        (tmp_path / "a" / "link").symlink_to("/etc/shadow")
        for path, mode in ((tmp_path, 0o777), (tmp_path / "a", 0o777), (tmp_path / "a" / "file", 0o644)):
            path.chmod(mode)
        found = facts_of([str(tmp_path)])
        assert found.owner == user_name(os.getuid())
        assert found.others_read
        assert found.others_take
        (tmp_path / "a").chmod(0o1777)
        assert not facts_of([str(tmp_path)]).others_take
        assert facts_of([str(tmp_path / "missing")]).owner is None


def entry(path: str, mode: int, *, uid: int, gid: int = 4000, sticky_for: int | None = None) -> Entry:
    """A file, or a directory if its name ends in a slash."""
    kind = stat.S_IFDIR if path.endswith("/") else stat.S_IFREG
    return Entry(path, os.stat_result((kind | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0)), sticky_for)


class TestRights:
    def test_owner_group_and_others(self) -> None:
        """Each directory must be written by whoever empties it, each file read; names of users are not needed."""
        spool = [entry("/s/", 0o755, uid=4001), entry("/s/den/", 0o755, uid=4001), entry("/s/den/x", 0o600, uid=4001)]
        assert not obstacle(spool, "4001", takes=True)
        assert obstacle(spool, "4002", takes=True).startswith("/s/ belongs to 4001:4000 with mode 755")
        assert obstacle(spool, "4002", takes=False).startswith("/s/den/x belongs to 4001:4000 with mode 600")
        assert not obstacle(spool[:2], "4002", takes=False)
        assert obstacle([entry("/s/", 0o577, uid=4001)], "4001", takes=True)

    def test_root_is_a_user_like_others(self) -> None:
        """A service of root that is locked away may not remove what modes keep from it."""
        spool = [entry("/s/", 0o755, uid=0), entry("/s/den/", 0o755, uid=4001)]
        assert "/s/den/ belongs to 4001" in obstacle(spool, "0", takes=True)

    def test_a_sticky_directory(self) -> None:
        """There everybody may write, and remove only what is his, or in what is his."""
        spool = [entry("/s/", 0o1777, uid=4001), entry("/s/x", 0o644, uid=4002, sticky_for=4001)]
        assert not obstacle(spool, "4001", takes=True)
        assert not obstacle(spool, "4002", takes=True)
        assert "/s/x belongs to 4002" in obstacle(spool, "4003", takes=True)
        assert not obstacle(spool, "4003", takes=False)

    def test_somebody_who_may(self) -> None:
        """Where the owner of the spool may not remove all files, the one is taken who may; else it is refused."""
        spool = (entry("/s/", 0o777, uid=4001), entry("/s/den/", 0o755, uid=4002), entry("/s/den/x", 0o644, uid=4002))
        assert choose(needs(), SpoolFacts(owner="4001", entries=spool)).user == "4002"
        mixed = SpoolFacts(owner="4001", entries=(*spool, entry("/s/attic/", 0o755, uid=4001)))
        with pytest.raises(UsageProblem, match="could not remove all files of /spool/in: /s/den/ belongs to 4002"):
            choose(needs(), mixed)
        assert choose(needs(on_success="keep", prune_empty_dirs=False), mixed).user == "4001"

    def test_a_user_that_was_asked_for(self) -> None:
        """One that may not is refused, unless somebody insists who knows more than modes tell."""
        facts = SpoolFacts(owner="4001", entries=(entry("/s/", 0o755, uid=4001),))
        with pytest.raises(UsageProblem, match="user 4002 could not remove"):
            choose(needs(), facts, wanted="4002")
        assert choose(needs(), facts, wanted="4002", force=True).user == "4002"
        assert choose(needs(), facts, wanted="root", is_confined=False).user == "root"


class TestServices:
    def test_only_what_it_needs(self) -> None:
        """The spool is writable; capabilities are none for the owner, one for others."""
        assert "\nReadWritePaths=/spool/in\n" in run_service(plan())
        assert "\nCapabilityBoundingSet=CAP_LEASE\n" in run_service(plan())
        assert "\nCapabilityBoundingSet=\n" in run_service(plan(OWNER))

    def test_no_secret_stands_in_it(self) -> None:
        """Keys and passwords come as credentials; only their files are named."""
        assert "\nLoadCredential=aws:/etc/s3-uploader/credentials\n" in run_service(plan())
        ftp = {"type": "ftp", "host": "h", "password_file": "/etc/secret 100%"}
        assert "\nLoadCredential=ftp:/etc/secret 100%%\n" in run_service(plan(destination=ftp))

    def test_a_private_key_is_handed_over(self) -> None:
        """The key for an SFTP server need be readable by root only; the file of known hosts is public."""
        sftp = {"type": "sftp", "host": "192.0.2.1", "user": "u", "private_key_file": "/etc/key", "password_file": "/p"}
        text = run_service(plan(destination={**sftp, "known_hosts_file": "/home/pi/known"}))
        assert "\nLoadCredential=sftp:/etc/key\n" in text
        assert "\nEnvironment=S3_UPLOADER_DESTINATION__PRIVATE_KEY_FILE=%d/sftp\n" in text
        assert "\nLoadCredential=ftp:/p\n" in text
        assert "/home/pi/known" in text

    def test_a_client_certificate_is_handed_over(self) -> None:
        """The file has a private key, too."""
        s3 = {"type": "s3", "bucket": "b", "client_certificate_file": "/etc/client.pem"}
        text = run_service(plan(destination=s3))
        assert "\nLoadCredential=client:/etc/client.pem\n" in text
        assert "\nEnvironment=S3_UPLOADER_DESTINATION__CLIENT_CERTIFICATE_FILE=%d/client\n" in text

    def test_homes_are_hidden(self) -> None:
        """A spool in a home is bound into an empty one."""
        text = run_service(plan(base_dir="/home/pi/spool"))
        assert "\nProtectHome=tmpfs\n" in text
        assert "\nBindPaths=/home/pi/spool\n" in text
        assert "ReadWritePaths" not in text

    def test_links_into_homes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A spool that links lead to from outside is bound where it really is, in the home."""
        home = tmp_path / "home"
        (home / "data" / "spool").mkdir(parents=True)
        (tmp_path / "data").symlink_to(home / "data")
        monkeypatch.setattr("s3_uploader.deployment.sandbox._HOMES", (str(home),))
        monkeypatch.setattr("s3_uploader.deployment.sandbox._TEMPORARY", ())
        text = run_service(plan(base_dir=f"{tmp_path}/data/spool"))
        assert "\nProtectHome=tmpfs\n" in text
        assert f"\nBindPaths={escaping.bound(str(home / 'data' / 'spool'))}\n" in text
        assert "ReadWritePaths" not in text

    def test_a_command_that_a_link_in_a_home_leads_to(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As pipx and uv install it, it is called where it really is; a link that a service sees stays."""
        real, link = tmp_path / "venv" / "s3-uploader-cli", tmp_path / "bin" / "s3-uploader-cli"
        for path in (real, link):
            path.parent.mkdir()
        real.write_text("#!/bin/sh\n")
        real.chmod(0o755)
        link.symlink_to(real)
        monkeypatch.setenv("PATH", str(link.parent))
        monkeypatch.setattr("sys.argv", [str(link)])
        monkeypatch.setattr("s3_uploader.deployment.sandbox._TEMPORARY", ())
        assert units._command() == str(link)
        monkeypatch.setattr("s3_uploader.deployment.sandbox._HOMES", (str(tmp_path),))
        assert units._command() == str(real)

    def test_other_data_is_hidden(self) -> None:
        """Directories of data are out of sight, but those that the configuration leads into."""
        assert "-/srv" in run_service(plan())
        assert "-/srv" not in run_service(plan(base_dir="/srv/spool"))

    def test_no_network_for_an_archive(self) -> None:
        """Copying to a directory needs no network, and the copies may be read."""
        text = run_service(plan(destination={"type": "local", "path": "/archive"}))
        assert "\nPrivateNetwork=yes\n" in text
        assert "\nUMask=0022\n" in text
        assert "LoadCredential" not in text

    def test_times_come_from_the_configuration(self) -> None:
        """A stop waits for the uploads, a run that overstays its budget is ended."""
        text = run_service(plan(drain_seconds=90, max_runtime_seconds=600))
        assert "\nTimeoutStopSec=110\n" in text
        assert "\nTimeoutStartSec=750\n" in text
        assert "TimeoutStartSec" not in run_service(plan())

    def test_watch(self) -> None:
        """The service for watch is watched itself, reloads, and gives up only over its configuration."""
        text = watch_service(plan())
        for line in ("Type=notify", "WatchdogSec=120", "Restart=on-failure", "RestartPreventExitStatus=2"):
            assert f"\n{line}\n" in text

    @pytest.mark.parametrize(("home", "homes"), [("home/pi", "home"), ("root", "root")])
    def test_what_a_reload_reads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, homes: str) -> None:
        """A hidden configuration that an editor replaces is seen again, but not all that is in a home with it."""
        monkeypatch.setattr("s3_uploader.deployment.sandbox._ABOVE_HOMES", (str(tmp_path / "home"),))
        monkeypatch.setattr("s3_uploader.deployment.sandbox._HOMES", (str(tmp_path / homes),))
        monkeypatch.setattr("s3_uploader.deployment.sandbox._TEMPORARY", ())
        own, shared = tmp_path / home / "conf" / "den.json", tmp_path / home / "den.json"
        own.parent.mkdir(parents=True)
        for path in (own, shared):
            path.write_text("{}")
        assert f"\nBindReadOnlyPaths={own.parent}\n" in watch_service(plan(source=str(own)))
        assert f"\nBindReadOnlyPaths={own}\n" in run_service(plan(source=str(own)))
        text = watch_service(plan(source=str(shared)))
        assert f"after a restart, not after a reload.\nBindReadOnlyPaths={shared}\n" in text
        assert "not after a reload" not in run_service(plan(source=str(shared))) + watch_service(plan(source=str(own)))

    def test_metrics_can_be_read(self) -> None:
        """A service that serves metrics has a network, even where it copies to a directory."""
        text = watch_service(plan(destination={"type": "local", "path": "/archive"}, listen="[::]:9102"))
        assert "PrivateNetwork" not in text
        assert '\nExecStart=/usr/bin/s3-uploader-cli watch --metrics-listen "[::]:9102" ' in text

    def test_settings_are_handed_on(self) -> None:
        """What --set said when the units were made holds in the service too."""
        text = run_service(plan(settings=("key_prefix=a b/",)))
        assert '\nExecStart=/usr/bin/s3-uploader-cli run --set "key_prefix=a b/" /etc/s3-uploader/config.json\n' in text

    @pytest.mark.parametrize(
        ("minutes", "calendar"),
        [(1, "*-*-* *:*:15"), (5, "*-*-* *:0/5:15"), (120, "*-*-* 0/2:00:15"), (1440, "*-*-* 00:00:15")],
    )
    def test_the_timer(self, minutes: int, calendar: str) -> None:
        """It starts after files of the minute before have settled."""
        assert f"\nOnCalendar={calendar}\n" in timer(plan(minutes=minutes))
        assert "\nOnCalendar=*-*-* *:*:35\n" in timer(plan(settle_seconds=30))


class TestCron:
    def test_both_forms(self) -> None:
        """/etc/cron.d names a user in each line, a user's own crontab does not."""
        line = "/usr/bin/s3-uploader-cli run --quiet /etc/s3-uploader/config.json"
        assert crontab(plan(), user="pi").splitlines()[-1] == f"* * * * * pi {line}"
        assert crontab(plan(minutes=15), user=None).splitlines()[-1] == f"*/15 * * * * {line}"

    def test_keys(self) -> None:
        """A file of keys that was named is used; one that was not must not hide those of the user."""
        given = plan(is_given=True, credentials="/etc/my keys")
        assert '\nAWS_SHARED_CREDENTIALS_FILE="/etc/my keys"\n' in crontab(given, user=None)
        assert "\nAWS_SHARED_CREDENTIALS_FILE" not in crontab(plan(), user=None)


class TestInstalling:
    def test_written_once(self, tmp_path: Path) -> None:
        """What is there already is not written again; what another version wrote is replaced."""
        path = tmp_path / "x.service"
        file = UnitFile(str(path), sealed("[Unit]\n"))
        assert install([file], force=False) == {str(path): "written"}
        assert install([file], force=False) == {str(path): "unchanged"}
        assert path.stat().st_mode & 0o777 == 0o644
        newer = UnitFile(str(path), sealed("[Unit]\nDescription=x\n"))
        assert install([newer], force=False) == {str(path): "written"}
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("there", [sealed("[Unit]\n").replace("Unit", "Service"), "[Unit]\n", ""])
    def test_edited_files_stay(self, tmp_path: Path, there: str) -> None:
        """A file that somebody has edited, or made, is not written over unless told so, nor are the others."""
        edited, other = tmp_path / "b.service", tmp_path / "a.service"
        edited.write_text(there)
        files = [UnitFile(str(path), sealed("[Unit]\n")) for path in (other, edited)]
        with pytest.raises(UsageProblem, match="was edited"):
            install(files, force=False)
        assert edited.read_text() == there
        assert not other.exists()
        install(files, force=True)
        assert is_as_written(edited.read_text())

    def test_a_masked_unit_stays_masked(self, tmp_path: Path) -> None:
        """A unit that an administrator has masked is not brought back."""
        path = tmp_path / "x.service"
        path.symlink_to(os.devnull)
        with pytest.raises(UsageProblem, match="was edited"):
            install([UnitFile(str(path), sealed("x"))], force=False)

    def test_no_right_to_write(self, tmp_path: Path) -> None:
        """A directory that is not there, or not ours, is a sentence and not a traceback."""
        path = str(tmp_path / "missing" / "x")
        with pytest.raises(UsageProblem, match=f"^{path} cannot be written: No such file"):
            install([UnitFile(path, sealed("x"))], force=False)


def test_names() -> None:
    """The units of /etc/s3-uploader/config.json have the plain name; others are told apart."""
    assert name_of("/etc/s3-uploader/config.json") == "s3-uploader"
    assert name_of("/etc/s3-uploader/Den 1.json") == "s3-uploader-den-1"
    assert name_of("/etc/s3-uploader/conf.d/") == "s3-uploader"


@pytest.mark.parametrize("text", ["7min", "90min", "5h", "2d", "0min", "soon", ""])
def test_uneven_periods(text: str) -> None:
    """A period that would drift against the clock is refused."""
    with pytest.raises(UsageProblem, match="does not divide an hour"):
        minutes_of(text)


def test_periods() -> None:
    """Minutes, hours, a day."""
    assert [minutes_of(text) for text in ("1min", "15m", "2h", "1d")] == [1, 15, 120, 1440]
