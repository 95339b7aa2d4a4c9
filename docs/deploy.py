"""The unit files and the crontab in `deploy/`: what ``units`` prints for the example configuration."""

from __future__ import annotations

from pathlib import Path

from s3_uploader import config
from s3_uploader.cli.units import files_of
from s3_uploader.deployment.account import SpoolFacts, choose
from s3_uploader.deployment.needs import needs_of
from s3_uploader.deployment.plan import Plan

ROOT = Path(__file__).parent.parent


def generated() -> dict[Path, str]:
    """Each file with what is to stand in it, for a program that was installed as the README says."""
    needs = needs_of([config.load(str(ROOT / "config.example.json"))], home=None)
    plan = Plan(
        name="s3-uploader",
        command=("/usr/local/bin/s3-uploader-cli",),
        program=("/opt/s3-uploader",),
        source="/etc/s3-uploader/config.json",
        needs=needs,
        account=choose(needs, SpoolFacts(owner=None)),
        credentials="/etc/s3-uploader/credentials",
        is_given=False,
        environment="/etc/s3-uploader/environment",
    )
    files = [file for kind in ("timer", "watch", "crontab") for file in files_of(plan, kind=kind)]
    return {ROOT / "deploy" / Path(file.path).name: file.content for file in files}
