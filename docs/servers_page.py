"""The page `docs/reference/servers.md`: what each S3 server does, from the record of `python -m tests.survey`."""

from __future__ import annotations

from pathlib import Path

from tests.survey import record
from tests.survey.names import odd_names
from tests.survey.observe import Finding, Observation
from tests.survey.record import Recorded

PAGE = Path(__file__).parent / "reference" / "servers.md"

_TITLES = {
    "ceph": "Ceph RGW",
    "juicefs": "JuiceFS' gateway",
    "localbucket": "localbucket",
    "localstack": "LocalStack",
    "ministack": "MiniStack",
    "moto": "moto",
    "nanio": "nanio",
    "pys3local": "pys3local",
    "rclone": "rclone serve s3",
    "s3rver": "s3rver",
    "swift": "OpenStack Swift, s3api",
}

_REMARKS = {
    "pys3local": (
        "It makes a path of whatever it is told: an object `/etc/x` is that file on its machine. Let it run as a user "
        "who may write nowhere else. Names that differ in nothing but empty steps (`in//side` and `in///side`) are one "
        "file to it, of which it says under each name that it is there: the second replaces the first unseen."
    ),
    "rclone": (
        "Names with control characters, and some with blanks of other kinds, are known under the name that they were "
        "sent with for five minutes, and then under one with pictures of these characters: the bytes are there, and an "
        "audit misses the name. An object whose name ends with a slash hides the objects below that name."
    ),
}
"""What was seen by hand."""

_INTRODUCTION = """\
# S3 servers, one by one

What each of these servers does, and what the program says and does there. The installed command shipped to each of
them, with both engines, and the objects were read back with boto3 and compared byte for byte. `python -m tests.survey`
writes the record from which this page is made; the tests hold every server that is installed against it.

What holds on all of them, unless a server's own section says otherwise:

* Each file arrives byte for byte or stays in the spool, and the log says why.
* Files that are refused keep no other file from going.
* A second file of other content replaces the first only with `on_conflict: overwrite`; one of the same content is
  recognised, and counted as shipped.
* After SIGKILL at any instant the next run finishes the work.
* `audit` and `audit --deep` find everything as it was shipped; what is compressed is stored as it was compressed.

`check` says the same of your own server. Services (Amazon's own, Cloudflare R2, Backblaze B2 and others) are not here,
because the tests need no network; see [S3-compatible services](../how-to/s3-compatible.md).

"""


def generated() -> str:
    """Make the page."""
    known = record.read()
    names = sorted(known, key=lambda name: _TITLES[name].lower())
    parts = [_INTRODUCTION, _overview({name: known[name] for name in names})]
    parts += [_section(name, known[name]) for name in names]
    return "\n".join(parts)


def _overview(known: dict[str, Recorded]) -> str:
    total = sum(map(len, odd_names().values()))
    rows = [
        "## At a glance",
        "",
        f"Names: how many of {total} odd ones were stored as they are. Proof: of a file in one piece, and in parts.",
        "",
        "| server | a damaged upload | a second write to a key | proof | names |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, each in known.items():
        seen = each.engines["native"]
        sizes = list(seen.sizes.proofs.values())
        proof = f"{sizes[1]}, {sizes[-1]}" if not seen.sizes.in_parts else f"{sizes[1]}; takes no parts"
        cells = [
            f"[{_TITLES[name]}](#{_anchor(_TITLES[name])}) {each.version}",
            _fact(seen.check, "checksums"),
            _fact(seen.check, "conflicts").partition(":")[0],
            proof,
            str(sum(seen.names.stored.values())),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _section(name: str, known: Recorded) -> str:
    seen = known.engines["native"]
    lines = [f"## {_TITLES[name]}", "", f"Version {known.version}.", ""]
    if name in _REMARKS:
        lines += [_REMARKS[name], ""]
    lines += ["What `check` says:", "", "```text", *(_line(finding) for finding in seen.check), "```", ""]
    if seen.sizes.in_parts:
        lines += ["What is said of a file that would go in parts:", "", _quote(seen.sizes.in_parts), ""]
    kept = ", ".join(f"`{policy}`: {result}" for policy, result in seen.second.items())
    lines += [f"A second file of other content, by `on_conflict`: {kept}.", ""]
    lines += _names(seen)
    others = _differences(seen, known.engines["boto3"])
    lines += [f"The engine `boto3` differs in: {others}." if others else "Both engines alike.", ""]
    return "\n".join(lines)


def _names(seen: Observation) -> list[str]:
    troubled = {kind: numbers for kind, numbers in seen.names.numbers.items() if numbers[1] or numbers[2]}
    if not troubled:
        return ["Every odd name is stored as it is.", ""]
    lines = ["| names with | stored | under another name | refused | for example |", "| --- | --- | --- | --- | --- |"]
    for kind, (stored, renamed, refused) in troubled.items():
        example = _example(seen.names.refused[kind].example) if refused else ""
        lines.append(f"| {kind} | {stored} | {renamed or ''} | {refused or ''} | {example} |")
    said: dict[str, str] = {}
    for each in seen.names.refused.values():
        said.setdefault(_reason(each.said), _example(each.example))
    lines += ["", "What is said of refused names:", ""]
    lines += [f"* {example}: {_escaped(reason)}" for reason, example in said.items()]
    return [*lines, ""]


def _reason(said: str) -> str:
    """What a line of the log says after the object's address."""
    return said.partition(": ")[2] if said.startswith(" to ") else said.strip()


def _example(name: str) -> str:
    shown = ascii(name)[1:-1]
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    return f"`` {shown} ``".replace("|", "\\|")


def _differences(one: Observation, other: Observation) -> str:
    subjects = {
        "`check`": (one.check, other.check),
        "names": (one.names.numbers, other.names.numbers),
        "proof": (one.sizes.proofs, other.sizes.proofs),
        "second files": (one.second, other.second),
    }
    return ", ".join(subject for subject, (left, right) in subjects.items() if left != right)


def _fact(check: tuple[Finding, ...], subject: str) -> str:
    return next((finding.fact for finding in check if finding.subject == subject), "not asked")


def _line(finding: Finding) -> str:
    meaning = f" {finding.meaning}" if finding.meaning else ""
    return f"{finding.severity.upper():<7} {finding.subject}: {finding.fact.rstrip('.')}.{meaning}"


def _quote(text: str) -> str:
    return f"> {_escaped(_reason(text))}"


def _escaped(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "\\`*_<>[]|" else sign for sign in text)


def _anchor(title: str) -> str:
    kept = "".join(sign for sign in title.lower() if sign.isalnum() or sign in " -")
    return kept.replace(" ", "-")
