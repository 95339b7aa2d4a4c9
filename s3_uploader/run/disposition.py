"""The policies for files that were shipped, and for files that cannot be shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from s3_uploader.spool.move_target import MoveTarget


class SuccessPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The policy for shipped files: delete, keep, or move."""

    move_to: MoveTarget | None = None
    keep: bool = False


class FailurePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The policy for files that cannot be shipped: after ``attempts`` they are moved or deleted, else they stay."""

    move_to: MoveTarget | None = None
    delete: bool = False
    attempts: int = 1
