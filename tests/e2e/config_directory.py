"""A directory of configurations, each with a spool of its own that is shipped to a directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.site import COMMAND, Finished, Running, Site, in_its_directory, settle


class Directory:
    """The directory; `add` fills it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.path = site.place / "conf.d"
        self.path.mkdir()

    def add(self, name: str, **settings: Any) -> Path:
        """Add a configuration, or change one, that ships to a directory; returns its spool."""
        spool, archive = self.site.place / name, self.site.place / f"{name}-archive"
        spool.mkdir(exist_ok=True)
        archive.mkdir(exist_ok=True)
        destination = {"type": "local", "path": str(archive)}
        raw = {"base_dir": str(spool), "layout": "tree", "destination": destination, **settings}
        (self.path / f"{name}.json").write_text(json.dumps(raw))
        return spool

    def archived(self, name: str) -> list[str]:
        """What was shipped by the configuration of that name."""
        archive = self.site.place / f"{name}-archive"
        return sorted(str(path.relative_to(archive)) for path in archive.rglob("*") if path.is_file())

    def start(self, *arguments: str) -> Running:
        """Start a command, or the short form without one, on the directory."""
        line = [str(COMMAND), *arguments[:1], str(self.path), *arguments[1:]]
        return self.site.start(command=line)

    def run(self, *arguments: str) -> Finished:
        """The same to its end."""
        return self.start(*arguments).wait()


def put(spool: Path, name: str, content: bytes = b"a reading\n") -> None:
    """A file that is ready to be shipped."""
    path = spool / name
    in_its_directory(path, lambda: path.write_bytes(content))
    settle(path)
