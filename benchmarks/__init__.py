"""How fast and how cheap the program is, side by side with what people use today: ``python -m benchmarks``.

Terms
-----
case
    A spool and an endpoint: what there is to do.
contestant
    A program with its flags that does the whole job: find, upload, delete.
run
    One contestant, once, on a spool made for it. It counts only if every file arrived whole and the spool is empty.
round
    Every contestant of a case, one run each, one after the other.
"""
