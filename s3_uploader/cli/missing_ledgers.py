"""The warnings about ledgers that cannot be found: that of the spool, and those of its shares."""

from __future__ import annotations

import os
import sys

from s3_uploader.core.text import shown_name
from s3_uploader.inspection.share_status import unheard_in_words
from s3_uploader.ledger import Ledger, LedgerReader
from s3_uploader.ledger.state_directory import WHERE_IT_MAY_BE
from s3_uploader.ledger.together import ledgers_of_shares, open_together


def tell_of_missing_shares(ledger: LedgerReader | str) -> None:
    """Print a warning if a command's output lacks some share.

    :param ledger: the ledgers of a spool, or the path of the first.
    :raises StateError: if one cannot be read.
    """
    if isinstance(ledger, str):
        if ledgers_of_shares(ledger):
            with open_together(ledger) as opened:
                tell_of_missing_shares(opened)
        return
    sentence = unheard_in_words(ledger)
    if sentence:
        print(sentence, file=sys.stderr)


def tell_of_missing_ledger(path: str) -> None:
    """Print a warning if there is no ledger at all, which reads like one in which nothing has happened.

    :param path: the ledger of the spool.
    :raises StateError: if it may be there, and this user may not see it.
    """
    if not os.path.exists(path) and not ledgers_of_shares(path):
        Ledger.open_readonly(path).close()
        print(f"There is no ledger {shown_name(path)}, so this knows of no run. {WHERE_IT_MAY_BE}", file=sys.stderr)
