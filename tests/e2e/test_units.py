"""What ``units`` installs, run by systemd itself."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.site import COMMAND
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import or_skip
from tests.servers.namespaces import need_namespaces
from tests.servers.pyftpd import py_ftp_server
from tests.servers.systemd import Systemd

DEBIAN = Path(__file__).resolve().parents[2] / "deploy" / "debian"


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    """A service manager of its own."""
    need_namespaces()
    manager = Systemd(tmp_path_factory.mktemp("systemd"))
    or_skip(manager.start)
    yield manager
    manager.stop()


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """An S3 server."""
    with FaultServer(small_buffers=False) as running:
        yield running


class Machine:
    """The machine that systemd runs, with a configuration on it."""

    def __init__(self, systemd: Systemd, server: FaultServer) -> None:
        self.systemd = systemd
        self.server = server

    def configure(self, name: str, **settings: Any) -> str:
        """Write a configuration, and keys that only root can read; returns the configuration's path."""
        if "destination" not in settings:
            endpoint = self.server.endpoint
            settings = {
                "bucket": endpoint.bucket,
                "endpoint_url": endpoint.endpoint_url,
                "region": endpoint.region,
                "addressing_style": "path",
                **settings,
            }
            keys = (
                f"[default]\naws_access_key_id = {endpoint.access_key}\naws_secret_access_key = {endpoint.secret_key}\n"
            )
            self.write("/etc/s3-uploader/credentials", keys)
            self.systemd.inside("chmod", "600", "/etc/s3-uploader/credentials")
        path = f"/etc/s3-uploader/{name}.json"
        self.write(path, json.dumps(settings))
        return path

    def write(self, path: str, content: str) -> None:
        """Write a file."""
        self.systemd.inside("sh", "-c", 'mkdir -p "$(dirname "$1")" && printf %s "$2" > "$1"', "sh", path, content)

    def spool(self, path: str, *, owner: str = "root", mode: str = "755") -> None:
        """Make a spool with a file of long ago in it."""
        self.systemd.inside(
            "sh",
            "-ec",
            'mkdir -p "$1/den/2020/11/29/20"; echo reading > "$1/den/2020/11/29/20/46-topic.dat"; '
            'touch -d 2020-11-29 "$1/den/2020/11/29/20/46-topic.dat"; chown -R "$2" "$1"; chmod -R "$3" "$1"',
            "sh",
            path,
            owner,
            mode,
        )

    def units(self, config_file: str, *arguments: str) -> dict[str, Any]:
        """Install the units as a user would; returns what the command says about them."""
        answer = json.loads(self.systemd.inside(COMMAND, "units", config_file, "--install", "--json", *arguments))
        assert isinstance(answer, dict)
        self.systemd.inside("systemctl", "daemon-reload")
        return answer

    def run(self, unit: str) -> None:
        """Let a service run once, to its good end."""
        self.systemd.inside("systemctl", "start", unit)
        shown = self.systemd.inside("systemctl", "show", "-p", "Result", "-p", "ExecMainStatus", unit)
        assert "Result=success" in shown
        assert "ExecMainStatus=0" in shown, shown

    def probe(self, unit: str, script: str) -> str:
        """What a shell says where the service would run, in its sandbox and as its user."""
        drop_in = textwrap.dedent(
            f"""\
            [Service]
            ExecStart=
            ExecStart=/bin/sh -c '{script}'
            StandardOutput=file:/run/probed
            StandardError=file:/run/probed
            """
        )
        self.write(f"/etc/systemd/system/{unit}.d/probe.conf", drop_in)
        self.systemd.inside("systemctl", "daemon-reload")
        self.systemd.inside("systemctl", "start", unit, check=False)
        self.systemd.inside("rm", "-r", f"/etc/systemd/system/{unit}.d")
        self.systemd.inside("systemctl", "daemon-reload")
        return self.systemd.inside("cat", "/run/probed")

    def files(self, path: str) -> list[str]:
        """Every file below a directory."""
        return self.systemd.inside("find", path, "-type", "f").splitlines()


@pytest.fixture
def machine(systemd: Systemd, server: FaultServer) -> Machine:
    """A machine with systemd and a server in reach."""
    return Machine(systemd, server)


def wait_until(holds: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)


KEY = "den/2020/11/29/20/46-topic.dat"


def test_as_the_owner(machine: Machine) -> None:
    """Files of one user are shipped by a service of that user, without a capability, with keys only root can read."""
    machine.spool("/srv/owned", owner="daemon", mode="700")
    config = machine.configure("owned", base_dir="/srv/owned")
    assert machine.units(config)["user"] == "daemon"
    machine.run("s3-uploader-owned.service")
    assert KEY in machine.server.objects()
    assert machine.files("/srv/owned") == []
    seen = machine.probe(
        "s3-uploader-owned.service", "id -un; grep CapBnd /proc/self/status; touch /srv/x /etc/x /var/x"
    )
    assert seen.splitlines()[0] == "daemon"
    assert "CapBnd:\t0000000000000000" in seen
    assert seen.count("Read-only file system") == 3
    state = machine.systemd.inside("stat", "-c", "%U %a", "/var/lib/s3-uploader-owned").split()
    assert state == ["daemon", "700"]


def test_as_nobody_in_particular(machine: Machine) -> None:
    """Where everybody may remove files, the service has a user that exists only while it runs."""
    machine.spool("/srv/open", owner="daemon", mode="777")
    config = machine.configure("open", base_dir="/srv/open")
    assert machine.units(config)["user"] is None
    machine.run("s3-uploader-open.service")
    assert KEY in machine.server.objects()
    assert machine.files("/srv/open") == []
    assert "s3-uploader-open" in machine.probe("s3-uploader-open.service", "id -un")


def test_what_is_moved_stays_one_rename(machine: Machine) -> None:
    """Claims and moved files are renamed, though each writable place of a service is a mount of its own."""
    machine.spool("/srv/queue/incoming", owner="daemon", mode="755")
    machine.systemd.inside("sh", "-c", "mkdir /srv/queue/working /srv/queue/done; chown daemon /srv/queue/*")
    inode = machine.systemd.inside("stat", "-c", "%i", f"/srv/queue/incoming/{KEY}")
    config = machine.configure(
        "moving",
        base_dir="/srv/queue/incoming",
        claim_dir="/srv/queue/working",
        on_success={"move_to": "/srv/queue/done"},
        metrics_file="/srv/metrics/s3.prom",
    )
    machine.systemd.inside("install", "-d", "-o", "daemon", "/srv/metrics")
    machine.units(config)
    machine.run("s3-uploader-moving.service")
    assert machine.systemd.inside("stat", "-c", "%i", f"/srv/queue/done/{KEY}") == inode
    assert machine.systemd.inside("stat", "-c", "%U %a", "/srv/metrics/s3.prom").split() == ["daemon", "644"]


def test_in_a_home(machine: Machine) -> None:
    """A spool in a home directory, with a strange name, is reached; the rest of the homes is not there."""
    spool = "/home/pi/100% of my data"
    machine.spool(spool, owner="games", mode="700")
    machine.write("/home/pi/diary", "private")
    machine.write("/home/ada/diary", "private")
    machine.systemd.inside("mkdir", "/srv/archive")
    machine.systemd.inside("chown", "games", "/srv/archive")
    config = machine.configure("home % sweet", base_dir=spool, destination={"type": "local", "path": "/srv/archive"})
    machine.units(config)
    machine.run("s3-uploader-home-sweet.service")
    assert machine.files("/srv/archive") == [f"/srv/archive/{KEY}"]
    assert machine.files("/home/pi") == ["/home/pi/diary"]
    seen = machine.probe("s3-uploader-home-sweet.service", "ls /home /home/pi; touch /home/pi/x")
    assert "diary" not in seen
    assert "ada" not in seen
    # A read-only file system, or no right: which of the two a kernel names first, differs.
    assert "cannot touch '/home/pi/x'" in seen


def test_watching(machine: Machine) -> None:
    """The service for ``watch`` is ready, hears of new files at once, reloads, and ends in good order."""
    machine.systemd.inside("install", "-d", "-o", "daemon", "/srv/watched")
    config = machine.configure("w", base_dir="/srv/watched", layout="tree", settle_seconds=0)
    answer = machine.units(config, "--kind", "watch")
    unit = "s3-uploader-w-watch.service"
    assert f"systemctl enable --now {unit}" in answer["next"]
    machine.systemd.inside("systemctl", "start", unit)
    machine.write("/srv/watched/first", "1")
    wait_until(lambda: "first" in machine.server.objects(), "the first upload")
    machine.systemd.inside("systemctl", "reload", unit)
    machine.write("/srv/watched/second", "2")
    wait_until(lambda: "second" in machine.server.objects(), "the second upload")
    machine.systemd.inside("systemctl", "stop", unit)
    assert "Result=success" in machine.systemd.inside("systemctl", "show", "-p", "Result", unit)
    assert "polling" not in machine.systemd.services_log


def test_the_timer(machine: Machine) -> None:
    """The timer is accepted, and its next run is less than its period and delay away."""
    machine.spool("/srv/timed", owner="daemon")
    machine.units(machine.configure("timed", base_dir="/srv/timed"))
    machine.systemd.inside("systemctl", "start", "s3-uploader-timed.timer")
    shown = machine.systemd.inside("systemctl", "list-timers", "--output=json")
    assert json.loads(shown)[0]["activates"] == "s3-uploader-timed.service"
    machine.systemd.inside("systemctl", "stop", "s3-uploader-timed.timer")


def test_status_knows_the_timer(machine: Machine) -> None:
    """Whether something starts the runs, and when it does so next, is asked of systemd."""
    machine.spool("/srv/timed", owner="daemon")
    config = machine.configure("timed", base_dir="/srv/timed")
    machine.units(config, "--every", "1d")

    def status(*arguments: str) -> str:
        return machine.systemd.inside(
            "env", "STATE_DIRECTORY=/var/lib/s3-uploader-timed", COMMAND, "status", config, *arguments, check=False
        )

    assert status().startswith("STUCK because s3-uploader-timed.timer, which starts the runs, is stopped")
    assert "To do: Start it: systemctl enable --now s3-uploader-timed.timer" in status()
    machine.systemd.inside("systemctl", "start", "s3-uploader-timed.timer")
    found = json.loads(status("--json"))
    assert found["started_by"] == {"unit": "s3-uploader-timed.timer", "active": True}
    assert found["next_run_expected"] is not None
    assert "(s3-uploader-timed.timer)" in status()
    machine.systemd.inside("systemctl", "stop", "s3-uploader-timed.timer")


def test_with_the_other_engine(machine: Machine) -> None:
    """The engine boto3 is at work in the sandbox too, as a user of its own."""
    machine.spool("/srv/boto3", owner="daemon", mode="777")
    machine.units(machine.configure("boto3", base_dir="/srv/boto3", engine="boto3"))
    machine.run("s3-uploader-boto3.service")
    assert KEY in machine.server.objects()


def test_a_password_that_only_root_can_read(machine: Machine, tmp_path: Path) -> None:
    """The password file of an FTP server is handed to the service, which could not read it by itself."""
    machine.spool("/srv/ftp", owner="daemon")
    machine.write("/etc/s3-uploader/my secret", "testpw\n")
    machine.systemd.inside("chmod", "600", "/etc/s3-uploader/my secret")
    with py_ftp_server(tmp_path) as server:
        destination = {
            "type": "ftp",
            "host": "127.0.0.1",
            "port": server.port,
            "user": "test",
            "password_file": "/etc/s3-uploader/my secret",
        }
        machine.units(machine.configure("ftp", base_dir="/srv/ftp", destination=destination))
        machine.run("s3-uploader-ftp.service")
    assert (tmp_path / KEY).read_text() == "reading\n"


def test_a_directory_of_configurations(machine: Machine) -> None:
    """One service runs all configurations of a directory, and can write to all of their spools."""
    for name in ("one", "two"):
        machine.spool(f"/srv/several/{name}", owner="daemon")
        config = machine.configure(name, base_dir=f"/srv/several/{name}", key_prefix=f"{name}/")
        machine.systemd.inside("sh", "-c", f"mkdir -p /etc/s3-uploader/conf.d; mv {config} /etc/s3-uploader/conf.d")
    assert machine.units("/etc/s3-uploader/conf.d", "--name", "several")["user"] == "daemon"
    machine.run("several.service")
    assert {f"one/{KEY}", f"two/{KEY}"} <= set(machine.server.objects())


def test_spools_of_several_owners(machine: Machine) -> None:
    """Each owner has a service of its own, which sees its spools and no others; what no user can do is refused."""
    for name, owner in (("one", "daemon"), ("two", "games"), ("three", "daemon")):
        machine.spool(f"/srv/owners/{name}", owner=owner)
        config = machine.configure(name, base_dir=f"/srv/owners/{name}", key_prefix=f"of-{name}/")
        machine.systemd.inside("sh", "-c", f"mkdir -p /etc/s3-uploader/owners; mv {config} /etc/s3-uploader/owners")
    found = machine.units("/etc/s3-uploader/owners")["units"]
    assert {each["name"]: each["user"] for each in found} == {
        "s3-uploader-owners-daemon": "daemon",
        "s3-uploader-owners-games": "games",
    }
    machine.run("s3-uploader-owners-daemon.service")
    assert {f"of-one/{KEY}", f"of-three/{KEY}"} == {key for key in machine.server.objects() if key.startswith("of-")}
    seen = machine.probe("s3-uploader-owners-games.service", "touch /srv/owners/one/x || echo kept out; id -un")
    assert "kept out" in seen
    assert "games" in seen
    machine.run("s3-uploader-owners-games.service")
    assert f"of-two/{KEY}" in machine.server.objects()
    machine.spool("/srv/owners/two", owner="games")
    machine.systemd.inside("chown", "root", "/srv/owners/two")
    refused = machine.systemd.inside(COMMAND, "units", "/etc/s3-uploader/owners", check=False)
    assert "could not remove all files of /srv/owners/two" in refused
    assert "User=root" not in refused


def test_watching_several(machine: Machine) -> None:
    """One service watches a directory of configurations, and stops in good order."""
    for name in ("one", "two"):
        machine.spool(f"/srv/watched/{name}", owner="daemon")
        config = machine.configure(name, base_dir=f"/srv/watched/{name}", key_prefix=f"watched-{name}/")
        machine.systemd.inside("sh", "-c", f"mkdir -p /etc/s3-uploader/watched; mv {config} /etc/s3-uploader/watched")
    machine.units("/etc/s3-uploader/watched", "--kind", "watch")
    unit = "s3-uploader-watched-watch.service"
    machine.systemd.inside("systemctl", "start", unit)
    wanted = {f"watched-{name}/{KEY}" for name in ("one", "two")}
    wait_until(lambda: wanted <= set(machine.server.objects()), "both are shipped")
    assert "StatusText=2 spools" in machine.systemd.inside("systemctl", "show", "-p", "StatusText", unit)
    machine.systemd.inside("systemctl", "stop", unit)
    assert "Result=success" in machine.systemd.inside("systemctl", "show", "-p", "Result", unit)


def test_no_keys(machine: Machine) -> None:
    """A service without a file of keys starts; what it lacks is told by the program, not by systemd."""
    machine.spool("/srv/keyless", owner="daemon")
    config = machine.configure("keyless", base_dir="/srv/keyless")
    machine.systemd.inside("rm", "/etc/s3-uploader/credentials")
    machine.write("/etc/s3-uploader/environment", "AWS_EC2_METADATA_DISABLED=true\n")
    machine.units(config)
    machine.systemd.inside("systemctl", "start", "s3-uploader-keyless.service", check=False)
    machine.systemd.inside("rm", "/etc/s3-uploader/environment")
    shown = machine.systemd.inside("systemctl", "show", "-p", "ExecMainStatus", "s3-uploader-keyless.service")
    assert shown.strip() == "ExecMainStatus=3"
    assert "Unable to locate credentials" in machine.systemd.services_log


def test_the_templates_of_the_package_let_a_run_do_all_it_does(machine: Machine) -> None:
    """A system call that the template refuses is an error to the run, and does not kill it: it tries to keep owners."""
    template = (DEBIAN / "units" / "s3-uploader@.service").read_text()
    # This command may lie in a temporary directory, or in the home of root.
    for packaged, here in (("/usr/bin/s3-uploader-cli", str(COMMAND)), ("=s3-uploader\nState", "=root\nState"),
                           ("PrivateTmp=yes\n", "")):  # fmt: skip
        assert packaged in template
        template = template.replace(packaged, here)
    machine.write("/etc/systemd/system/s3-uploader@.service", template)
    machine.systemd.inside("mkdir", "/srv/larder")
    settings = {
        "base_dir": "/srv/larder/spool",
        "claim_dir": "/srv/larder/working",
        "metrics_file": "/srv/larder/spool.prom",
        "key_prefix": "larder/",
    }
    machine.configure("larder", **settings)
    machine.systemd.inside("systemctl", "daemon-reload")
    machine.spool("/srv/larder/spool")
    machine.run("s3-uploader@larder.service")
    assert f"larder/{KEY}" in machine.server.objects()
    machine.run("s3-uploader@larder.service")
    assert machine.files("/srv/larder") == ["/srv/larder/spool.prom"]
    for each in (DEBIAN / "units").glob("*.service"):
        assert "\nSystemCallErrorNumber=EPERM\n" in each.read_text()


def test_a_removed_package_leaves_nothing_running(machine: Machine) -> None:
    """The package stops what its templates have started when it is removed, and not when it is upgraded."""
    for template in (DEBIAN / "units").iterdir():
        machine.write(f"/etc/systemd/system/{template.name}", template.read_text())
    machine.write("/etc/s3-uploader/kitchen.json", "{}")
    machine.systemd.inside("systemctl", "daemon-reload")
    timer = "s3-uploader@kitchen.timer"
    machine.systemd.inside("systemctl", "start", timer)
    script = (DEBIAN / "prerm").read_text()

    def is_active_after(action: str) -> bool:
        machine.systemd.inside("sh", "-c", script, "prerm", action)
        return machine.systemd.inside("systemctl", "is-active", timer, check=False).strip() == "active"

    assert is_active_after("upgrade")
    assert not is_active_after("remove")
    assert not is_active_after("remove"), "with nothing to stop it is no failure"
