"""The tables of `docs/reference/ledger.md`: columns and types from the schema, meanings as they stand on the page."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from s3_uploader.ledger.schema import ADDED_COLUMNS, MIGRATIONS

PAGE = Path(__file__).parent / "reference" / "ledger.md"
BLOCK = re.compile(r"(<!-- table ([a-z_]+) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)
ROW = re.compile(r"^\| `(\w+)` \| [^|]* \| (.*?) ?\|$", re.MULTILINE)


def columns() -> dict[str, list[tuple[str, str]]]:
    """Name and type of each column of each table, in a ledger that is made by all steps of the schema."""
    with sqlite3.connect(":memory:") as connection:
        for step in MIGRATIONS:
            for statement in step:
                connection.execute(statement)
        for name, column, declaration in ADDED_COLUMNS:
            connection.execute(f"ALTER TABLE {name} ADD COLUMN {column} {declaration}")
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid").fetchall()
        return {
            table: [
                (name, kind.lower() or "name")
                for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall()
            ]
            for (table,) in names
        }


def generated(page: str) -> str:
    """The page with its tables written anew; a column that is new has no meaning yet."""
    known = columns()

    def table(found: re.Match[str]) -> str:
        meanings = dict(ROW.findall(found[3]))
        rows = [f"| `{name}` | {kind} | {meanings.get(name, '')} |" for name, kind in known[found[2]]]
        return "\n".join([f"{found[1]}", "| column | type | meaning |", "| --- | --- | --- |", *rows, "", found[4]])

    return BLOCK.sub(table, page)


def problems(page: str) -> list[str]:
    """What the page does not say: a table that it has no place for, a column without a meaning."""
    known = columns()
    told = {found[2]: dict(ROW.findall(found[3])) for found in BLOCK.finditer(page)}
    missing = [f"no place for the table {table}" for table in known if table not in told]
    missing += [
        f"no meaning for {table}.{name}"
        for table in known
        for name, _ in known[table]
        if table in told and not told[table].get(name)
    ]
    return missing
