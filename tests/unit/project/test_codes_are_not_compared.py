"""What an error means is decided where it is made."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import s3_uploader

PACKAGE = Path(s3_uploader.__file__).parent
MAKERS = {
    "core/errors.py",
    "stores/s3/errors.py",
    "stores/s3/refusals.py",
    *(f"stores/{kind}/{module}.py" for kind in ("ftp", "sftp") for module in ("errors", "replies")),
}
"""The modules that make errors, or the exceptions of a protocol that errors are made of."""


def nodes(path: Path) -> Iterator[ast.AST]:
    """What a module is made of; nothing if it has no attribute of that name, as most."""
    text = path.read_text()
    return ast.walk(ast.parse(text)) if re.search(r"\.\s*code\b", text) else iter(())


def test_no_code_is_compared_downstream() -> None:
    """Outside the modules that make errors, no code of an error is compared with a text."""
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if str(path.relative_to(PACKAGE)) not in MAKERS
        for node in nodes(path)
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == "code"
        if any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(node))
    ]
    assert found == []
