"""The Ansible role in `deploy/`: `ansible-playbook` installs with it on this machine, below a directory of its own."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import environments
from tests.servers.debian import Unavailable

ROLES = Path(__file__).resolve().parents[2] / "deploy" / "ansible" / "roles"
COMMAND = Path(sys.executable).with_name("s3-uploader-cli")


def ansible() -> str:
    """The program, on the path or in an environment of its own."""
    found = shutil.which("ansible-playbook")
    if found is not None:
        return found
    try:
        return str(environments.installed("ansible") / "ansible-playbook")
    except Unavailable as missing:
        pytest.skip(str(missing))


def play(place: Path, *arguments: str, **variables: Any) -> tuple[int, str, dict[str, int]]:
    """Play the role against this machine; exit code, what was printed, and the numbers of the recap."""
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    values = {
        "ansible_python_interpreter": sys.executable,
        "s3_uploader_config": {"base_dir": str(place / "spool"), "bucket": "readings", "key_prefix": "{host}/"},
        "s3_uploader_directory": str(place / "etc"),
        "s3_uploader_units_directory": str(place / "systemd"),
        "s3_uploader_package": "",
        "s3_uploader_command": str(COMMAND),
        "s3_uploader_user": user,
        "s3_uploader_create_user": False,
        "s3_uploader_start": False,
        **variables,
    }
    (place / "playbook.yml").write_text(
        "- hosts: localhost\n  connection: local\n  gather_facts: false\n  roles: [s3_uploader]\n"
    )
    (place / "variables.json").write_text(json.dumps(values))
    environment = {"ANSIBLE_ROLES_PATH": str(ROLES), "ANSIBLE_LOCAL_TEMP": str(place / "tmp"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        [ansible(), "-i", "localhost,", "playbook.yml", "-e", "@variables.json", *arguments],
        cwd=place,
        env={**os.environ, **environment, "HOME": str(place), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    recap = re.search(r"^localhost +: (.*)$", done.stdout, re.MULTILINE)
    numbers = dict(re.findall(r"(\w+)=(\d+)", recap[1])) if recap else {}
    return done.returncode, done.stdout + done.stderr, {name: int(number) for name, number in numbers.items()}


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_the_role_installs_what_units_prints(tmp_path: Path) -> None:
    """Configuration, secrets and units are written; played again nothing changes; nonsense is refused.

    What keeps a unit from working is told.
    """
    for name in ("spool", "systemd"):
        (tmp_path / name).mkdir()
    secret = "aws_secret_access_key = hush"
    variables = {
        "s3_uploader_credentials": f"[default]\n{secret}\n",
        "s3_uploader_environment": {"AWS_REGION": "eu-north-1"},
    }
    code, printed, numbers = play(tmp_path, **variables)
    assert code == 0, printed
    assert numbers["changed"] == 5
    assert secret not in printed
    assert "does not exist" not in printed
    config = tmp_path / "etc" / "s3-uploader.json"
    assert json.loads(config.read_text())["key_prefix"] == "{host}/"
    assert config.stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "etc" / "credentials").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "etc" / "environment").read_text() == "AWS_REGION=eu-north-1\n"
    units = {path.name: path.read_text() for path in (tmp_path / "systemd").iterdir()}
    assert set(units) == {"s3-uploader.service", "s3-uploader.timer"}
    assert f"ExecStart={COMMAND} {config}\n" in units["s3-uploader.service"]

    code, printed, numbers = play(tmp_path, **variables)
    assert (code, numbers["changed"]) == (0, 0), printed

    code, printed, numbers = play(tmp_path, s3_uploader_config={"base_dir": str(tmp_path / "spool"), "bukket": "b"})
    assert code != 0
    assert "bukket" in printed
    assert json.loads(config.read_text())["bucket"] == "readings", "what is no configuration replaces none"

    later = {"base_dir": str(tmp_path / "later"), "bucket": "b"}
    code, printed, _ = play(tmp_path, "--check", s3_uploader_config=later)
    assert code == 0, printed
    code, printed, _ = play(tmp_path, s3_uploader_config=later)
    assert code == 0, printed
    assert f"{tmp_path}/later does not exist. No run can begin without it." in printed

    pinged = later | {"ping_url": "https://example.org/hush-hush"}
    code, printed, _ = play(tmp_path, "--diff", s3_uploader_config=pinged)
    assert code == 0, printed
    assert json.loads(config.read_text()) == pinged
    assert config.stat().st_mode & 0o777 == 0o600
    assert "hush-hush" not in printed


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_the_role_gives_cron_the_keys(tmp_path: Path) -> None:
    """No service passes them to the runs of cron: their user owns the file. What cron does not read is told."""
    for name in ("spool", "cron"):
        (tmp_path / name).mkdir()
    code, printed, _ = play(
        tmp_path,
        s3_uploader_kind="cron",
        s3_uploader_units_directory=str(tmp_path / "cron"),
        s3_uploader_credentials="[default]\naws_secret_access_key = hush\n",
        s3_uploader_environment={"AWS_REGION": "eu-north-1"},
    )
    assert code == 0, printed
    credentials = tmp_path / "etc" / "credentials"
    assert f"\nAWS_SHARED_CREDENTIALS_FILE={credentials}\n" in (tmp_path / "cron" / "s3-uploader").read_text()
    assert (credentials.owner(), credentials.stat().st_mode & 0o777) == (getpass.getuser(), 0o600)
    assert f"The runs of cron do not use {tmp_path}/etc/environment." in printed


def test_every_variable_has_a_default_and_is_used() -> None:
    """The role speaks of no variable that it does not explain, and explains none that it does not use."""
    texts = {path: path.read_text() for path in ROLES.rglob("*.yml")}
    used = {name for path, text in texts.items() if path.parent.name != "defaults"
            for name in re.findall(r"\bs3_uploader_\w+", text)}  # fmt: skip
    defaults = yaml.safe_load(texts[ROLES / "s3_uploader" / "defaults" / "main.yml"])
    own = {"s3_uploader_units", "s3_uploader_unit", "s3_uploader_has_secrets", "s3_uploader_config"}
    assert used == (set(defaults) | own)
    assert "s3_uploader_config:" in texts[ROLES / "s3_uploader" / "defaults" / "main.yml"]
