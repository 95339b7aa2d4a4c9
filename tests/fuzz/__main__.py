"""``python -m tests.fuzz --inputs 1000000 http xml``: a campaign against some parsers, or against all."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.fuzz.campaign import campaign, shown
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run the campaigns; 1 if there was a fault."""
    names = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--inputs", type=int, default=100_000, help="for each parser (default: 100,000)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    failed = False
    for target in TARGETS:
        if arguments.names and target.name not in arguments.names:
            continue
        began = time.monotonic()
        faults, longest = campaign(target, inputs=arguments.inputs, seed=arguments.seed)
        failed = failed or bool(faults)
        print(
            f"{target.name}: {arguments.inputs:,} inputs in {time.monotonic() - began:.0f} s, seed {arguments.seed}, "
            f"the longest took {longest * 1000:.1f} ms, {len(faults)} kinds of faults",
            flush=True,
        )
        for fault in faults:
            print(shown(fault))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
