"""Writes what the program says, and what was measured, into the documentation and `deploy/`.

``python docs/generate.py`` rewrites what stands on its pages between the markers ``<!-- keys of NAME -->`` or
``<!-- table NAME -->`` and ``<!-- end -->``; ``--check`` only says whether that would change anything, with exit code 1
if it would.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs import deploy, ledger_tables, limits_table, manual_page, servers_page, speed_table
from docs.metrics_table import PAGE as METRICS_PAGE
from docs.metrics_table import generated as metrics_page
from s3_uploader import config
from s3_uploader.config.describe import expected
from s3_uploader.config.json_schema import json_schema

PAGE = Path(__file__).with_name("configuration.md")
SCHEMA = Path(__file__).parent / "_static" / "s3-uploader.schema.json"
TABLES: dict[str, Any] = {
    "the run": config.Config,
    "s3": config.S3Destination,
    "ftp": config.FtpDestination,
    "sftp": config.SftpDestination,
    "local": config.LocalDestination,
    "move_to": config.MoveTo,
    "locations": config.Location,
    "compress": config.Compress,
}
BLOCK = re.compile(r"(<!-- keys of ([a-z0-9_ ]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def table(kind: Any, *, of: str = "") -> str:
    """One row for each key: what it takes, its default, what it is for; and an anchor, so that a key can be linked to.

    :param of: what the keys belong to, where they are not those of the run.
    """
    hints = get_type_hints(kind, include_extras=True)
    rows = ["| key | takes | default | meaning |", "| --- | --- | --- | --- |"]
    for field in msgspec.structs.fields(kind):
        if field.name == "destination":
            takes = "an object with a `type`"
        else:
            takes = re.sub(r'("[^"]*"|\{.*\}|\^\S+)', r"`\1`", expected(hints[field.name]))
        anchor = "-".join(["key", *([of] if of else []), field.name])
        cells = [f'<a id="{anchor}"></a>`{field.name}`', takes, default(field), description(hints[field.name])]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def default(field: Any) -> str:
    """The default as it would be written; nothing where the meaning says what happens without the key."""
    if field.required:
        return "required"
    value = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
    return "" if value is None else f"`{json.dumps(value)}`"


def description(hint: Any) -> str:
    """The sentence that the type carries."""
    assert get_origin(hint) is Annotated
    return next(meta.description for meta in get_args(hint)[1:] if isinstance(meta, Meta) and meta.description)


def generated(page: str) -> str:
    """The page with its tables written anew."""

    def tables(found: re.Match[str]) -> str:
        of = "" if found[2] == "the run" else found[2]
        return f"{found[1]}\n{table(TABLES[found[2]], of=of)}\n{found[3]}"

    return BLOCK.sub(tables, page)


def main(arguments: list[str]) -> int:
    """Rewrite the pages, or with ``--check`` compare them."""
    checking = arguments == ["--check"]
    before = PAGE.read_text(encoding="utf-8")
    missing = [name for name in TABLES if f"<!-- keys of {name} -->" not in before]
    if missing:
        print(f"{PAGE.name} has no place for the keys of: {', '.join(missing)}", file=sys.stderr)
        return 1
    stale = _write(PAGE, generated(before), checking=checking)
    stale |= _write(METRICS_PAGE, metrics_page(METRICS_PAGE.read_text(encoding="utf-8")), checking=checking)
    ledger = ledger_tables.generated(ledger_tables.PAGE.read_text(encoding="utf-8"))
    stale |= _write(ledger_tables.PAGE, ledger, checking=checking)
    readme = speed_table.generated(speed_table.PAGE.read_text(encoding="utf-8"))
    stale |= _write(speed_table.PAGE, readme, checking=checking)
    limits = limits_table.generated(limits_table.PAGE.read_text(encoding="utf-8"))
    stale |= _write(limits_table.PAGE, limits, checking=checking)
    for problem in ledger_tables.problems(ledger):
        print(f"{ledger_tables.PAGE.name} has {problem}", file=sys.stderr)
        stale = True
    schema = json.dumps(json_schema(), indent=2) + "\n"
    whole_pages = {
        manual_page.PAGE: manual_page.generated(),
        servers_page.PAGE: servers_page.generated(),
        SCHEMA: schema,
    }
    for path, text in {**deploy.generated(), **whole_pages}.items():
        stale |= _write(path, text, checking=checking)
    return int(stale)


def _write(page: Path, text: str, *, checking: bool) -> bool:
    """Write a page, or say that it is stale and return that."""
    if not checking:
        page.parent.mkdir(exist_ok=True)
        page.write_text(text, encoding="utf-8")
    elif not page.exists() or page.read_text(encoding="utf-8") != text:
        print(f"{page.name} is not what the program says; run: python docs/generate.py", file=sys.stderr)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
