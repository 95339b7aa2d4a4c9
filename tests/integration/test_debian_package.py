"""The Debian package, built with the standard tools and run where it is installed: all that it brings works."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import debian
from tests.servers.fixtures import or_skip
from tests.servers.namespaces import need_namespaces

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.exhaustive, pytest.mark.slow, pytest.mark.timeout(1200)]

RUN = """\
set -e
mount --bind "$1/opt" /opt
cd "$2"
mkdir -p spool archive
echo reading > spool/x
touch -d 2020-11-29 spool/x
printf '{"base_dir": "%s/spool", "layout": "tree", "destination": {"type": "local", "path": "%s/archive"}}' \
    "$PWD" "$PWD" > config.json
"$1/usr/bin/s3-uploader-cli" config.json
"$1/usr/bin/s3-uploader-cli" history config.json
cat archive/x
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, unpacked into a directory."""
    or_skip(lambda: debian.require("debhelper"))
    built = subprocess.run(["make", "deb"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    (deb,) = (ROOT / "build" / "deb").glob("*.deb")
    place = tmp_path_factory.mktemp("package")
    subprocess.run(["dpkg-deb", "--raw-extract", deb, place], check=True)
    return place


def test_the_command_runs_where_it_is_installed(package: Path, tmp_path: Path) -> None:
    """A file is shipped by the program of the package, which needs nothing but Debian's Python."""
    need_namespaces()
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", RUN, "run", str(package), str(tmp_path)]
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(tmp_path)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "has been uploaded" in finished.stderr
    assert finished.stdout.splitlines()[-1] == "reading"
    assert not (tmp_path / "spool" / "x").exists()


def test_it_brings_what_an_administrator_expects(package: Path) -> None:
    """Units, the manual page, completion for three shells, an example, and a user to run as."""
    for path in (
        "usr/bin/s3-uploader-cli",
        "usr/lib/systemd/system/s3-uploader@.service",
        "usr/lib/systemd/system/s3-uploader@.timer",
        "usr/lib/systemd/system/s3-uploader-watch@.service",
        "usr/share/man/man1/s3-uploader-cli.1.gz",
        "usr/share/bash-completion/completions/s3-uploader-cli",
        "usr/share/zsh/vendor-completions/_s3-uploader-cli",
        "usr/share/fish/vendor_completions.d/s3-uploader-cli.fish",
        "usr/share/doc/s3-uploader/README.Debian",
        "usr/share/doc/s3-uploader/examples/config.example.json",
    ):
        assert os.path.lexists(package / path), path
    assert "adduser --system" in (package / "DEBIAN" / "postinst").read_text()
    assert "complete -F" in (package / "usr/share/bash-completion/completions/s3-uploader-cli").read_text()
    control = (package / "DEBIAN" / "control").read_text()
    assert "Package: s3-uploader\n" in control
    assert "python3 (<< " in control


def test_it_is_compiled(package: Path) -> None:
    """A service whose user may not write into the package loads all modules without compiling them each time."""
    (place,) = (package / "opt/venvs/s3-uploader").glob("lib/python3*/site-packages/s3_uploader")
    for source in place.rglob("*.py"):
        (compiled,) = source.parent.glob(f"__pycache__/{source.stem}.*.pyc")
        assert compiled.read_bytes()[4:8] == b"\1\0\0\0", compiled  # by hash, whatever the times are
        assert str(package).encode() not in compiled.read_bytes()


def test_systemd_accepts_its_units(package: Path) -> None:
    """Templates become units of each configuration, and systemd has nothing to say about them."""
    or_skip(lambda: debian.require("systemd"))
    units = package / "usr/lib/systemd/system"
    for template in sorted(units.glob("*@.*")):
        instance = template.with_name(template.name.replace("@.", "@kitchen."))
        text = template.read_text().replace("/usr/bin/s3-uploader-cli", "/bin/true")
        instance.write_text(text.replace("%i", "kitchen"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(units.glob("*@kitchen.*"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr
    for instance in units.glob("*@kitchen.*"):
        instance.unlink()
    assert shutil.which("systemd-analyze")
