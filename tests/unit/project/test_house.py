"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
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


def test_every_command_applies_the_overrides_of_the_command_line() -> None:
    """A command that reads the file alone would not see what --set says."""
    modules = [path for path in (ROOT / "s3_uploader" / "cli").glob("*.py") if path.name != "frame.py"]
    assert not [path.name for path in modules if "config.load(" in path.read_text()]


def test_a_run_with_nothing_to_do_loads_nothing_that_only_looks(tmp_path: Path) -> None:
    """What explains trouble, and what the commands that look are made of, costs a tick without work nothing."""
    (tmp_path / "spool" / "attic").mkdir(parents=True)
    (tmp_path / "spool" / "attic" / "fresh").touch()
    script = (
        "import sys; from s3_uploader import config; from s3_uploader.run.context import RunContext\n"
        "from s3_uploader.run.run import run_once\n"
        f"settings = {{'base_dir': {str(tmp_path / 'spool')!r}, 'bucket': 'b', 'layout': 'tree',"
        f" 'state_dir': {str(tmp_path / 'state')!r}}}\n"
        "settings = config.from_mapping(settings, source='x')\n"
        "report = run_once(settings, RunContext(emit=lambda event: None))\n"
        "assert report.left == {'fresh': 1}, report\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    only_look = {"inspection", "health.diagnosis", "deployment"}
    assert not {f"s3_uploader.{name}" for name in only_look} & set(done.stdout.split())
    assert not (HEAVY - {"sqlite3"} | {"json", "hashlib", "random", "secrets", "socket"}) & set(done.stdout.split())


SHIPS = {"run.pipeline", "run.settlement", "run.assembly", "stores", "spool.removal", "spool.open_file"}
EXPLAINS = {"health.notices", "health.diagnosis", "inspection", "run.not_begun", "run.noticing", "spool.holder"}
MOST_MODULES = 45
"""Each module costs a tick about a five-hundredth of its time."""


def test_modules_of_a_tick_without_work(tmp_path: Path) -> None:
    """The command that a timer starts each minute loads what ships files only when there is a file to ship."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "young").touch()
    settings = {"base_dir": str(tmp_path / "spool"), "bucket": "b", "layout": "tree", "state_dir": str(tmp_path / "s")}
    (tmp_path / "c.json").write_text(json.dumps(settings))
    script = (
        "import sys; from s3_uploader.cli import main\n"
        f"code = main([{str(tmp_path / 'c.json')!r}])\n"
        "print(code, *(name for name in sys.modules if name.startswith('s3_uploader.')))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    code, *loaded = done.stdout.split()
    assert code == "0", done.stderr
    assert not {f"s3_uploader.{name}" for name in SHIPS | EXPLAINS} & set(loaded)
    assert len(loaded) <= MOST_MODULES, sorted(loaded)
    paths = modules()
    read, all_of_it = (sum(len(paths[name].read_text()) for name in names) for names in (loaded, paths))
    # The documentation says a sixth.
    assert 1 / 7 < read / all_of_it < 1 / 5


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package, by its dotted name; a folder is its ``__init__``."""
    paths = (ROOT / "s3_uploader").rglob("*.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


class Outline:
    """What the rules ask of a module, found in one go."""

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        self.lines = len(text.splitlines())
        self.subject = ast.get_docstring(tree) or ""
        self.imports: list[ast.Import | ast.ImportFrom] = []
        self.functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
        waiting: list[ast.AST] = [tree]
        while waiting:
            node = waiting.pop()
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imports.append(node)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.functions.append(node)
            # Within an expression there is neither.
            waiting += (each for each in ast.iter_child_nodes(node) if not isinstance(each, (ast.expr, ast.arguments)))


@functools.cache
def outlines() -> dict[str, Outline]:
    """The outline of every module of the package, by its dotted name."""
    return {name: Outline(path.read_text()) for name, path in modules().items()}


def imports() -> dict[str, set[str]]:
    """Which modules of the package each module imports: at the top, in functions, for types."""
    known = outlines()
    found: dict[str, set[str]] = {name: set() for name in known}
    for name, outline in known.items():
        for node in outline.imports:
            targets: list[str] = []
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif node.module:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [each if each in known else node.module for each in inner]
            found[name] |= {target for target in targets if target in known and target != name}
    return found


def test_no_circle_of_files() -> None:
    """Every module can be read after those that it needs."""
    remaining = imports()
    # The package itself hands out the public names, each imported when it is first asked for.
    remaining = {name: needs - {"s3_uploader"} for name, needs in remaining.items() if name != "s3_uploader"}
    while True:
        free = {name for name, needs in remaining.items() if not needs & remaining.keys()}
        if not free:
            break
        remaining = {name: needs for name, needs in remaining.items() if name not in free}
    assert not remaining


def test_the_drawing_of_the_layers_is_the_contract() -> None:
    """The folders in the documentation are those of the linter's contract, in its order, and each is there."""
    drawing = (
        (ROOT / "docs" / "architecture.md").read_text().partition("<!-- layers -->\n```text\n")[2].partition("```")[0]
    )
    drawn = [line.split()[0] for line in drawing.splitlines()]
    contract = (ROOT / "pyproject.toml").read_text().partition("layers = [")[2].partition("]")[0]
    kept = [name for line in re.findall(r'"([^"]*)"', contract) for name in re.split(r"[ |:]+", line)]
    assert drawn == [name for name in kept if name.isidentifier() and name != "_version"]
    folders = {path.name for path in (ROOT / "s3_uploader").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(drawn) == folders
    assert all(len(line.split()) > 3 for line in drawing.splitlines())


def test_each_module_names_its_subject() -> None:
    """The first line of a module is a sentence of its own that says what belongs there."""
    first_lines = {name: outline.subject.partition("\n")[0] for name, outline in outlines().items()}
    assert first_lines
    assert [name for name, line in first_lines.items() if not line.endswith((".", "?", ":"))] == []


def test_tests_are_found_where_one_looks_for_them() -> None:
    """Unit tests lie in the folders of what they test, and no file name stands in two folders."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    names = [path.name for path in paths]
    assert not {name for name in names if names.count(name) > 1}
    for folder in {path.parent for path in paths if ROOT / "tests" / "unit" in path.parents}:
        inner = folder.relative_to(ROOT / "tests" / "unit")
        assert str(inner) == "project" or (ROOT / "s3_uploader" / inner).is_dir(), inner


LONGEST_MODULE = 400
LONGEST_FUNCTION = 60


def long_ones() -> set[str]:
    """Modules, and functions without their decorators, that are too long to be read as one thing."""
    found = set()
    for name, outline in outlines().items():
        if outline.lines > LONGEST_MODULE:
            found.add(name)
        for node in outline.functions:
            if (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION:
                found.add(f"{name}:{node.name}")
    return found


def test_no_module_and_no_function_is_too_long() -> None:
    """A longer module has taken in a second subject, a longer function a second job."""
    assert sorted(long_ones()) == []
