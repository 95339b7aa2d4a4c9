"""What becomes of a file afterwards, whether it was shipped or cannot be: the policies of a run."""

from __future__ import annotations

import msgspec

from s3_uploader.spool.removal import MoveTarget


class SuccessPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a file that was shipped: it is deleted, kept, or moved."""

    move_to: MoveTarget | None = None
    keep: bool = False


class FailurePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a file that cannot be shipped: after ``attempts`` it is moved or deleted, else it stays."""

    move_to: MoveTarget | None = None
    delete: bool = False
    attempts: int = 1
