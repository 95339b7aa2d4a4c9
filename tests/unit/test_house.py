"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
END_TO_END = sorted((ROOT / "tests" / "e2e").rglob("*.py"))
HEAVY = {"boto3", "botocore", "click", "rich", "ssl", "sqlite3", "asyncio", "prometheus_client"}


@pytest.mark.parametrize("path", END_TO_END, ids=lambda path: path.name)
def test_end_to_end_tests_do_not_import_the_package(path: Path) -> None:
    """What a user runs is what is tested: the installed command, in a process of its own."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not [name for name in names if name.partition(".")[0] == "s3_uploader"]


@pytest.mark.usefixtures("unmeasured")
def test_loading_a_configuration_imports_nothing_heavy() -> None:
    """A tick that finds nothing to do pays for reading its configuration and not for libraries that it does not use."""
    script = (
        "import sys; from s3_uploader import config;"
        ' config.from_mapping({"base_dir": "/spool", "bucket": "bucket"}, source="x"); print(*sys.modules)'
    )
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not HEAVY & set(loaded.stdout.split())


def test_every_command_reads_its_configuration_as_the_command_line_means_it() -> None:
    """A command that reads the file alone would not see what --set says."""
    modules = [path for path in (ROOT / "s3_uploader" / "cli").glob("*.py") if path.name != "settings.py"]
    assert not [path.name for path in modules if "config.load(" in path.read_text()]


def test_a_run_with_nothing_to_do_loads_nothing_that_only_looks(tmp_path: Path) -> None:
    """What explains trouble, and what the commands that look are made of, costs a tick without work nothing."""
    (tmp_path / "spool" / "attic").mkdir(parents=True)
    (tmp_path / "spool" / "attic" / "fresh").touch()
    script = (
        "import sys; from s3_uploader import config; from s3_uploader.run.run import RunContext, run_once\n"
        f"settings = {{'base_dir': {str(tmp_path / 'spool')!r}, 'bucket': 'b', 'layout': 'tree',"
        f" 'state_dir': {str(tmp_path / 'state')!r}}}\n"
        "settings = config.from_mapping(settings, source='x')\n"
        "report = run_once(settings, RunContext(emit=lambda event: None))\n"
        "assert report.left == {'fresh': 1}, report\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    only_look = {"inspection", "health.diagnosis", "core.procfs", "deployment"}
    assert not {f"s3_uploader.{name}" for name in only_look} & set(done.stdout.split())
