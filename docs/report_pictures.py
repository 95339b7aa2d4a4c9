"""Makes the pictures of the report anew: docs/images/report-light.png and report-dark.png.

Real runs of the installed command against a directory: five days of them, made within two minutes by a clock that is
set back for each (libfaketime), with an outage of the destination on the third. Needs the Debian packages faketime,
chromium and chromium-driver.

python -m docs.report_pictures [REPORT]      also keeps the page
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.servers.browser import browser
from tests.servers.faketime import clock_offset_environment

IMAGES = Path(__file__).with_name("images")
COMMAND = Path(sys.executable).with_name("s3-uploader-cli")
LOCATIONS = ("attic", "bedroom", "cellar", "garage", "garden", "greenhouse")
DAYS = 5
STEP = 1800
"""Seconds between two runs."""


def main(arguments: list[str]) -> int:
    """Run, report, take pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        report = runs(place)
        if arguments:
            shutil.copy(report, arguments[0])
        IMAGES.mkdir(exist_ok=True)
        with browser(place / "profile") as chromium:
            for theme in ("light", "dark"):
                chromium.open(report, width=1100, dark=theme == "dark")
                (IMAGES / f"report-{theme}.png").write_bytes(chromium.screenshot(1110))
    return 0


def runs(place: Path) -> Path:
    """Let a spool fill and be emptied for some days; returns the report about it."""
    chance = random.Random(7)
    spool, archive, away = place / "measurements", place / "archive", place / "away"
    for directory in (spool, archive):
        directory.mkdir()
    config = place / "config.json"
    destination = {"type": "local", "path": str(archive)}
    settings = {"base_dir": str(spool), "destination": destination, "state_dir": str(place / "state")}
    config.write_text(json.dumps(settings))
    now = time.time()
    count = DAYS * 86400 // STEP
    for number in range(count):
        moment = now - (count - number) * STEP
        _produce(spool, moment, chance)
        if number in (count // 2, count // 2 + 14):
            source, target = (archive, away) if archive.exists() else (away, archive)
            source.rename(target)
        behind = clock_offset_environment(moment - time.time())
        subprocess.run([COMMAND, "run", "--quiet", config], env={**os.environ, **behind}, stderr=subprocess.DEVNULL)
    # A reader wants to see a path of a machine, and not that of a scratch directory.
    report = place / "report.html"
    subprocess.run([COMMAND, "report", config, "-o", report], check=True)
    report.write_text(
        report.read_text().replace(str(spool), "/var/spool/measurements").replace(str(archive), "archive")
    )
    return report


def _produce(spool: Path, moment: float, chance: random.Random) -> None:
    daylight = 1 + (time.gmtime(moment).tm_hour in range(6, 20))
    for number, location in enumerate(LOCATIONS):
        for _ in range(chance.randrange(1, 3) * daylight + number // 2):
            began = moment - chance.uniform(90, STEP)
            path = spool / location / time.strftime("%Y/%m/%d/%H/%M-topic.dat", time.gmtime(began))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(chance.randbytes(int(chance.lognormvariate(8 + number / 3, 0.7))))
            for each in (path, *path.parents[:5]):
                os.utime(each, (began + 60, began + 60))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
