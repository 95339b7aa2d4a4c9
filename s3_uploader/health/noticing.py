"""Whether a run has anything to notice; if it has not, :mod:`s3_uploader.health.notices` is not even read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3_uploader.core.counters import End, Tally, late
from s3_uploader.core.events import Emit
from s3_uploader.core.model import Problem, RunReport
from s3_uploader.ledger import Ledger

if TYPE_CHECKING:
    from s3_uploader.health.diagnosis import Facts

MEMORY_PREFIX = "seen:"
MEMORY_NAME = "files"
NOTHING_SEEN = "{}"


class Noticing:
    """To be made before the run is noted in the ledger, so that what is to be remembered goes with that.

    :param emit: told of what a person should know.
    """

    def __init__(self, ledger: Ledger, tally: Tally, report: RunReport, *, now: float, emit: Emit) -> None:
        self._ledger = ledger
        self._facts: Facts | None = None
        memory = ledger.endpoint_memory(prefix=MEMORY_PREFIX)
        if (
            report.exit_code
            or report.ended_by != End.DONE.value
            or tally.from_future
            or late(tally.not_finished, now)
            or (memory.get(MEMORY_NAME) or NOTHING_SEEN) != NOTHING_SEEN
        ):
            from s3_uploader.health import notices

            self._facts = notices.note(tally, memory, base_dir=report.base_dir, now=now, emit=emit)

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong; to be asked when the run has been noted in the ledger."""
        if self._facts is None:
            return ()
        from s3_uploader.health import notices

        return notices.problems_of(self._facts, self._ledger)
