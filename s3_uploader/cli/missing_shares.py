"""The warning about shares whose ledgers cannot be found."""

from __future__ import annotations

import sys

from s3_uploader.inspection.share_status import unheard_in_words
from s3_uploader.ledger import LedgerReader
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
