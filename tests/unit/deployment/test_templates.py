"""Templates of units and crontabs."""

from __future__ import annotations

import pytest

from s3_uploader.deployment.templates import filled


def test_a_line_of_its_own_takes_any_number_of_lines() -> None:
    """A line that is only a name stands for the lines of a list, also for none."""
    template = "[Unit]\n{network}\n{state}\n[Install]\n"
    assert filled(template, network=["Wants=a", "After=a"], state=[]) == "[Unit]\nWants=a\nAfter=a\n[Install]\n"


def test_text_is_filled_in_once() -> None:
    """A value stays as it is, even if it looks like a name or a format: paths may hold braces."""
    assert filled("Description=Empty {spool} {n}\n", spool="/spool/{n}", n=1) == "Description=Empty /spool/{n} 1\n"
    assert filled("{lines}\n", lines=["Path=/{n}"], n=1) == "Path=/{n}\n"


def test_a_name_without_a_value_is_a_mistake() -> None:
    """A template that names something unknown is not written into a unit."""
    with pytest.raises(KeyError):
        filled("User={user}\n", name="x")
