"""The page `docs/reference/servers.md`: what each server does, from the record of `python -m tests.survey`."""

from __future__ import annotations

from pathlib import Path

from tests.survey import record
from tests.survey.names import odd_names
from tests.survey.observation import Finding, Observation
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
    "openssh": "OpenSSH, SFTP",
    "proftpd": "ProFTPD, FTP",
    "pure-ftpd": "Pure-FTPd",
    "pys3local": "pys3local",
    "rclone": "rclone serve s3",
    "s3rver": "s3rver",
    "swift": "OpenStack Swift, s3api",
    "vsftpd": "vsftpd",
}

_REMARKS = {
    "pys3local": (
        "It uses every key as a path: an object `/etc/x` is that file on its machine. Run it as a user who may not "
        "write anywhere else. It stores names that differ only in empty or dotted steps as one file, and reports that "
        "file under each of them. The program detects this and sends no file with such a name."
    ),
    "rclone": (
        "Objects whose names have control characters, and some with unusual blanks, keep their names for five minutes. "
        "Then symbols replace these characters: the bytes are there, but an audit does not find the name. An object "
        "whose name ends with a slash hides the objects below that name."
    ),
    "s3rver": (
        "If the connection breaks during an upload, it stores the beginning of the file as the object. The next run "
        "finds other content there, keeps the file and says so; with `on_conflict: overwrite` it finishes the work."
    ),
}
"""What was seen by hand."""

_INTRODUCTION = """\
# Servers, one by one

What each of these servers does, and what the program says and does there. The installed command shipped to each of
them, to the S3 servers with both engines. The result was read with boto3, or from the server's disk, and compared byte
for byte. `python -m tests.survey` writes the record from which this page is made; the tests compare every installed
server with it.

The following was shown on each of these servers, and holds unless its own section says otherwise:

* Each file arrives byte for byte or stays in the spool, and the log says why.
* Files that are refused do not hold up other files.
* Files of 0 and 1 bytes and of every size around one and two parts arrive, proven.
* A second file of other content replaces the first only with `on_conflict: overwrite`; one of the same content is
  recognised, and counted as shipped.
* Compressed files, small or large, are stored byte for byte as they were compressed.
* After SIGKILL at any instant the next run finishes the work.
* `audit` and `audit --deep` find everything as it was shipped.

`check` tests your own server in the same way. Services (Amazon's own, Cloudflare R2, Backblaze B2 and others) are not
here, because the tests need no network; see [S3-compatible services](../how-to/s3-compatible.md).

"""


def generated() -> str:
    """Make the page."""
    known = record.read()
    names = sorted(known, key=lambda name: _TITLES[name].lower())
    with_buckets = {name: known[name] for name in names if "native" in known[name].engines}
    with_files = {name: known[name] for name in names if name not in with_buckets}
    parts = [_INTRODUCTION, _overview(with_buckets), _overview_of_files(with_files)]
    parts += [_section(name, known[name]) for name in (*with_buckets, *with_files)]
    return "\n".join(parts)


def _overview(known: dict[str, Recorded]) -> str:
    total = sum(map(len, odd_names().values()))
    rows = [
        "## S3 at a glance",
        "",
        f"Names: how many of {total} odd ones were stored as they are. Proof: of a file in one piece, and in parts.",
        "Killed: how many runs were ended by SIGKILL while they were at work, with either engine.",
        "",
        "| server | a damaged upload | a second write to a key | proof | names | killed |",
        "| --- | --- | --- | --- | --- | --- |",
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
            _kills(each),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _overview_of_files(known: dict[str, Recorded]) -> str:
    rows = [
        "## FTP and SFTP at a glance",
        "",
        "Proof: without `minimum_proof`. Names with empty or dotted steps are no paths, and are refused.",
        "ProFTPD's SFTP, drop boxes and users without permissions have tests of their own.",
        "",
        "| server | proof | how a file gets its name | names | killed |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, each in known.items():
        (seen,) = each.engines.values()
        naming = next(
            (found.fact for found in seen.check if "a rename" in found.fact or "hard link" in found.fact), "by a rename"
        )
        cells = [
            f"[{_TITLES[name]}](#{_anchor(_TITLES[name])}) {each.version}",
            seen.sizes.proofs["1"],
            naming,
            str(sum(seen.names.stored.values())),
            _kills(each),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _kills(known: Recorded) -> str:
    return ", ".join(str(seen.killed) for seen in known.engines.values())


def _section(name: str, known: Recorded) -> str:
    seen, *further = known.engines.values()
    lines = [f"## {_TITLES[name]}", "", f"Version {known.version}.", ""]
    if name in _REMARKS:
        lines += [_REMARKS[name], ""]
    lines += ["What `check` says:", "", "```text", *(_line(finding) for finding in seen.check), "```", ""]
    if seen.sizes.in_parts:
        lines += ["What is said of a file that would go in parts:", "", _quote(seen.sizes.in_parts), ""]
    kept = ", ".join(f"`{policy}`: {result}" for policy, result in seen.second.items())
    lines += [f"A second file of other content, by `on_conflict`: {kept}.", ""]
    lines += [f"Compressed files were proven by: {', '.join(seen.compressed)}.", ""]
    lines += _names(seen)
    for other in further:
        others = _differences(seen, other)
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
        "compressed files": (one.compressed, other.compressed),
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
