"""What is believed of an endpoint, and for how long."""

from __future__ import annotations

import pytest

from s3_uploader.stores.s3.capabilities import Capabilities, NoMemory, PartChecksums


def of_a_run(memory: NoMemory) -> Capabilities:
    """What another run knows."""
    return Capabilities(memory=memory, key="key", trusted=False, notice=lambda *_: None, name="server")


@pytest.mark.parametrize(("named", "known"), [(True, "composite"), (False, "full")])
def test_a_refusal_of_part_checksums(*, named: bool, known: PartChecksums) -> None:
    """A refusal that names the checksums of parts is believed at once, another one when it comes again."""
    memory = NoMemory()
    of_a_run(memory).takes_part_checksums("composite", "refused", named=named)
    later = of_a_run(memory)
    assert later.part_checksums == known
    later.takes_part_checksums("composite", "refused again", named=False)
    assert of_a_run(memory).part_checksums == "composite"


def test_part_checksums_that_were_taken_in_between() -> None:
    """A refusal that named nothing is forgotten once the same was taken."""
    memory = NoMemory()
    of_a_run(memory).takes_part_checksums("composite", "refused", named=False)
    of_a_run(memory).takes_part_checksums("full", "", named=False)
    of_a_run(memory).takes_part_checksums("composite", "refused", named=False)
    assert of_a_run(memory).part_checksums == "full"


def test_what_was_refused_is_tried_once_a_run() -> None:
    """Part checksums and conditions at the completion that were refused are tried again, and then known."""
    memory = NoMemory()
    first = of_a_run(memory)
    assert not first.tries_part_checksums()
    assert not first.tries_condition_at_completion()
    first.takes_part_checksums("none", "refused", named=True)
    first.completes_with_condition(False, "refused")
    second = of_a_run(memory)
    assert (second.tries_part_checksums(), second.tries_part_checksums()) == (True, False)
    assert (second.tries_condition_at_completion(), second.tries_condition_at_completion()) == (True, False)
    second.takes_part_checksums("full", "", named=True)
    second.completes_with_condition(True)
    third = of_a_run(memory)
    assert (third.part_checksums, third.completes_conditionally) == ("full", True)
