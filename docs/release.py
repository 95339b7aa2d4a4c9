"""What is published of a version: sdist and wheel, their checksums, and the notes from the changelog, in `dist/`.

make release        builds it from what is committed, tries the wheel, and names the commands that are left
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")


def notes(changelog: str, version: str) -> str:
    """The section of a version in the changelog, without its heading; empty if there is none."""
    found = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## \[|\Z)", changelog, re.M | re.S)
    return found[1].strip() + "\n" if found and found[1].strip() else ""


def problems(*, version: str, changelog: str, tags: list[str], changed: str) -> list[str]:
    """What keeps a version from being published.

    :param changed: what git says of files that are not committed.
    """
    found = []
    if not _VERSION.fullmatch(version):
        found.append(f"{version} is no version: three numbers, and a1, b1 or rc1 before a release.")
    if not notes(changelog, version):
        found.append(f"CHANGELOG.md has nothing under ## [{version}] - YYYY-MM-DD: give [Unreleased] that heading.")
    if f"v{version}" in tags:
        found.append(f"v{version} is tagged already: raise __version__ in s3_uploader/_version.py.")
    if changed:
        found.append(f"There are changes that are not committed:\n{changed.rstrip()}")
    return found


def checksums(files: list[Path]) -> str:
    """The lines that ``sha256sum --check`` reads."""
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(files))


def main() -> int:
    """Build it all, or say what is in the way."""
    package: dict[str, str] = {}
    exec((ROOT / "s3_uploader" / "_version.py").read_text(), package)
    version = package["__version__"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    found = problems(
        version=version,
        changelog=changelog,
        tags=_git("tag", "--list").splitlines(),
        changed=_git("status", "--porcelain"),
    )
    if found:
        print(*found, sep="\n", file=sys.stderr)
        return 1
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    # From what is committed and nothing else; the times in the archives are those of the commit.
    with tempfile.TemporaryDirectory() as place:
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", place], input=archive, check=True)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": _git("log", "-1", "--format=%ct").strip()}
        subprocess.run([sys.executable, "-m", "build", "--outdir", dist, place], check=True, env=environment)
    files = [*dist.glob("*.whl"), *dist.glob("*.tar.gz")]
    _try(next(dist.glob("*.whl")), version)
    (dist / "SHA256SUMS").write_text(checksums(files))
    (dist / "NOTES.md").write_text(notes(changelog, version))
    names = " ".join(f"dist/{file.name}" for file in sorted(files))
    print(f"\n{names}, SHA256SUMS and NOTES.md are made, and the wheel works. What is left:\n")
    print(f"  git tag --annotate v{version} --file dist/NOTES.md --cleanup whitespace")
    print(f"  git push origin v{version}")
    print(f"  twine upload {names}")
    return 0


def _try(wheel: Path, version: str) -> None:
    """Install it where nothing else is, and see that it starts."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([f"{place}/bin/pip", "install", "--quiet", wheel], check=True)
        told = subprocess.run(
            [f"{place}/bin/s3-uploader-cli", "--version"], check=True, capture_output=True, text=True, cwd=place
        ).stdout
        if version not in told:
            raise SystemExit(f"The wheel says of itself: {told}")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
