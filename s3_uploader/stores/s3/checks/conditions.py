"""Whether a bucket refuses a second write to a key that is taken."""

from __future__ import annotations

from s3_uploader.stores.s3.capabilities import CONDITIONAL_WRITES
from s3_uploader.stores.s3.checks.trial import ERROR, OK, Trial
from s3_uploader.stores.s3.refusals import Blame, blame, said
from s3_uploader.stores.s3.requests import UNLESS_THERE

_OF_CONDITION = (Blame.CONDITION, Blame.UNNAMED)


def check_condition(trial: Trial, body: bytes) -> None:
    """Whether a second write to a taken key is refused. One answer to the contrary may be chance, two are not."""
    replaced = refused = 0
    while replaced < 2 and refused < 2:
        call = trial.put(trial.key, body, UNLESS_THERE, client=trial.impatient, expected=frozenset((412,)))
        if call.status == 412:
            trial.capabilities.found("yes")
            trial.tell(
                OK, "conflicts", "a second write to the same key is refused",
                "No object is ever replaced by others.",
            )  # fmt: skip
            return
        if call.error is None:
            replaced += 1
        elif call.refusal is not None and blame(call.refusal, call.request.headers) in _OF_CONDITION:
            refused += 1
        else:
            trial.tell(ERROR, "conflicts", call.error.message, call.error.hint)
            return
    if replaced:
        trial.capabilities.found("ignored", "an object was replaced in spite of If-None-Match: *", is_told=True)
    else:
        assert call.refusal is not None
        trial.capabilities.found(
            "refused",
            f"PutObject with if-none-match was refused and without it accepted: {said(call.refusal)}",
            is_told=True,
        )
    trial.tell_limit(
        CONDITIONAL_WRITES,
        "conflicts",
        "If-None-Match is " + ("ignored" if replaced else "not implemented") + f": {trial.capabilities.evidence}",
        "The program checks whether a key is taken before it writes. But if two writers use the same key at "
        "the same time, one can replace the other's object.",
    )
