"""Settings of Sphinx for the documentation as a site; `make docs` builds it into `build/site`.

Sphinx reads the pages from the root of the repository, so that a link that works where the code is hosted works on the
site too, from the README of an example to a file in `deploy/` for instance.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs import commands  # noqa: E402  (the path comes first)
from s3_uploader._version import __version__  # noqa: E402

project = "s3_uploader"
author = "The s3_uploader authors"
copyright = author  # noqa: A001  (Sphinx wants this name)
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
# What is copied is what is typed: no prompt, and nothing of what is printed.
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
root_doc = "docs/index"
include_patterns = ["docs/**.md", "examples/*/README.md", "benchmarks/results/README.md", "CHANGELOG.md"]
exclude_patterns = [".*", "build", "s3_uploader", "tests"]

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "attrs_block"]

nitpicky = True
# Whatever is not this package's own: links to it would need the network.
nitpick_ignore_regex = [
    ("py:.*", r"(?!s3_uploader).*"),
    ("py:.*", r"s3_uploader\.(config|core\.(ends|model|origins)|remote_store\.connection)\..*"),
]
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "s3_uploader"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["tables.js"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
highlight_language = "none"
pygments_style = "tango"
pygments_dark_style = "monokai"
# Servers that answer programs differently from people are none of our links' fault.
linkcheck_timeout = 20
linkcheck_ignore = [r"https?://(localhost|127\.0\.0\.1|.*\.example(\.(com|org|net))?)([:/].*)?$"]


def setup(app: Any) -> None:
    """Make the reference of the commands, and let the site begin at its root wherever its pages lie."""
    app.connect("source-read", _insert_commands)
    app.connect("build-finished", _begin_at_the_root)


def _insert_commands(app: Any, page: str, source: list[str]) -> None:
    source[0] = source[0].replace("<!-- the commands -->\n", commands.reference())


def _begin_at_the_root(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        target = f"{root_doc}.html"
        page = (
            '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>s3_uploader</title>'
            f'<meta http-equiv="refresh" content="0; url={target}"><a href="{target}">The documentation</a></html>\n'
        )
        Path(app.outdir, "index.html").write_text(page, encoding="utf-8")
