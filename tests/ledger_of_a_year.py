"""A ledger as a year of one-minute runs leaves it, made up: what the report is measured with.

python -m tests.ledger_of_a_year LEDGER [DAYS [LOCATIONS]]
"""

from __future__ import annotations

import math
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from typing import Any

from s3_uploader.ledger import Ledger
from s3_uploader.ledger.columns import SHIPPED_COLUMNS

DAY = 86400
_MINUTE = 60
NAMES = ("attic", "bedroom", "cellar", "garage", "garden", "greenhouse", "kitchen", "living-room", "roof", "workshop")


def make(path: str, *, end: float, days: float, locations: int = 10, seed: int = 1) -> None:
    """Write a ledger in which each location shipped one file a minute, with outages of the network now and then."""
    Ledger.open(path).close()
    chance = random.Random(seed)
    names = [NAMES[number % len(NAMES)] + (f"-{number}" if number >= len(NAMES) else "") for number in range(locations)]
    minutes = int(days * DAY / _MINUTE)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("INSERT INTO destinations VALUES (1, 'measurements')")
        outages = {chance.randrange(minutes): chance.randrange(5, 600) for _ in range(max(int(days / 7), 1))}
        columns = f"INSERT INTO shipped ({SHIPPED_COLUMNS}) VALUES ({', '.join('?' * 15)}, NULL, '')"
        begin = end - minutes * _MINUTE
        down_for = 0
        waiting: list[int] = []
        files = size = 0
        for minute in range(minutes):
            down_for = max(down_for - 1, outages.get(minute, 0))
            started = begin + minute * _MINUTE
            waiting.append(minute)
            if down_for:
                connection.execute(*_run(started, minute, chance, backlog=len(waiting) * locations, failed=1))
                code = "EndpointConnectionError" if minute % 3 else "RequestTimeout"
                connection.execute(
                    "INSERT INTO failures VALUES (?, ?, ?, 1)"
                    " ON CONFLICT (hour, code, location) DO UPDATE SET uploads = uploads + 1",
                    (int(started // 3600), code, names[minute % locations]),
                )
                continue
            rows = list(_files(waiting, names, begin, started, minute, chance))
            connection.executemany(columns, rows)
            files, size = files + len(rows), size + sum(row[4] for row in rows)
            connection.execute(
                *_run(started, minute, chance, shipped=len(rows), shipped_bytes=sum(row[4] for row in rows))
            )
            waiting.clear()
        connection.execute(
            "UPDATE totals SET shipped_rows = ?, shipped_files = ?, shipped_bytes = ?, runs = ?, last_run_at = ?",
            (files, files, size, minutes, end),
        )
        connection.execute(
            "INSERT INTO locations SELECT location, count(*), sum(size), max(shipped_at), max(period_begin)"
            " FROM shipped GROUP BY location"
        )
    connection.close()


def _files(
    minutes: list[int], names: list[str], begin: float, now: float, run: int, chance: random.Random
) -> Iterator[tuple[Any, ...]]:
    for minute in minutes:
        data_time = begin + (minute - 1) * _MINUTE
        moment = time.gmtime(data_time)
        daylight = 1.2 - math.cos(2 * math.pi * moment.tm_hour / 24)
        for number, name in enumerate(names):
            path = f"{name}/{time.strftime('%Y/%m/%d/%H/%M', moment)}-topic.dat"
            took = chance.lognormvariate(-2, 0.5)
            yield (
                path, None, name, 1, int(chance.lognormvariate(8 + number / 4, 0.6) * daylight),
                int((data_time + _MINUTE) * 1e9), data_time, now + 1 + number / 50 + took, took, "checksum",
                "crc64nvme:AAAAAAAAAAA=", f"{chance.getrandbits(128):032x}", "", 0, run,
            )  # fmt: skip


def _run(
    started: float, minute: int, chance: random.Random, *, backlog: int = 0, failed: int = 0, **shipped: int
) -> tuple[str, tuple[Any, ...]]:
    duration = chance.lognormvariate(0, 0.3)
    ended = "destination" if failed else "done"
    sql = (
        "INSERT INTO runs (started_at, finished_at, pid, host, destination, duration, exit_code, shipped,"
        ' shipped_bytes, failed, "left", backlog, backlog_bytes, oldest_waiting, ended_by, message)'
        " VALUES (?, ?, ?, 'pi', 'measurements', ?, ?, ?, ?, ?, '{}', ?, ?, ?, ?, ?)"
    )
    values = (
            started, started + duration, 1000 + minute % 30000, duration, 3 if failed else 0,
            shipped.get("shipped", 0), shipped.get("shipped_bytes", 0), 0, backlog, backlog * 5000,
            started - backlog // 10 * _MINUTE if backlog else None, ended,
            "The endpoint cannot be reached." if failed else "",
    )  # fmt: skip
    return sql, values


if __name__ == "__main__":
    make(
        sys.argv[1],
        end=time.time(),
        days=float(sys.argv[2]) if len(sys.argv) > 2 else 365,
        locations=int(sys.argv[3]) if len(sys.argv) > 3 else 10,
    )
