"""``audit --inventory``: an S3 Inventory in place of a listing."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import json
import time
from pathlib import Path
from urllib.parse import quote_plus

from tests.e2e.site import Site
from tests.servers.fault_server import FaultServer


def inventory(place: Path, server: FaultServer, *, without: str = "", taken_at: float, bucket: str = "") -> Path:
    """An inventory of what the server holds, in no order."""
    place.mkdir(exist_ok=True)
    lines = [
        f'"{server.bucket}","{quote_plus(key, safe="/")}","{len(content)}","{hashlib.md5(content).hexdigest()}"\n'
        for key, content in sorted(server.objects().items(), reverse=True)
        if key != without
    ]
    data = gzip.compress("".join(lines).encode())
    (place / "data.csv.gz").write_bytes(data)
    manifest = {
        "sourceBucket": bucket or server.bucket,
        "creationTimestamp": str(int(taken_at * 1000)),
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, ETag",
        "files": [{"key": "data.csv.gz", "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}],
    }
    path = place / "manifest.json"
    path.write_text(json.dumps(manifest))
    return path


def test_nothing_is_listed(site: Site, fault_server: FaultServer) -> None:
    """What the inventory has is believed; what it lacks is asked for once more, and only what is gone is missing."""
    site.ship_to(fault_server)
    site.files(30)
    site.file("küche & more/2020/11/29/20/46-topic.dat")
    assert site.run().code == 0
    gone, unlisted, *_ = sorted(fault_server.objects())
    path = inventory(site.place / "inventory", fault_server, without=unlisted, taken_at=time.time() + 60)
    fault_server.forget_requests()
    fine = site.run("audit", "--inventory", str(path))
    assert fine.code == 0, fine.stdout + fine.stderr
    assert "31 files audited" in fine.stdout
    assert ": 31 with the same content." in fine.stdout
    assert fault_server.counts() == {"HeadObject": 1}

    del fault_server.store.buckets[fault_server.bucket][gone]
    path = inventory(site.place / "later", fault_server, taken_at=time.time() + 60)
    missing = site.run("audit", "--inventory", str(path.parent))
    assert missing.code == 1
    assert missing.stdout.startswith(f"missing:    {gone} ")
    assert fault_server.counts() == {"HeadObject": 2}


def test_what_an_old_inventory_cannot_know(site: Site, fault_server: FaultServer) -> None:
    """Files that were shipped since are not called missing, nor fine: their number is told, and how to audit them."""
    site.ship_to(fault_server)
    site.files(3)
    assert site.run().code == 0
    time.sleep(1.1)
    taken_at = int(time.time())
    path = inventory(site.place / "inventory", fault_server, taken_at=taken_at)
    time.sleep(0.1)
    site.file("attic/2020/11/29/10/38-topic.dat")
    assert site.run().code == 0
    told = site.run("audit", "--inventory", str(path))
    assert told.code == 0, told.stdout
    assert "3 files audited" in told.stdout
    assert "lacks 1 file shipped since" in told.stderr
    assert f"--since {taken_at}." in told.stderr
    of = f"{datetime.datetime.fromtimestamp(taken_at, datetime.timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    assert f", as they were in the inventory from {of}: 3 with the same content." in told.stdout
    summary = json.loads(site.run("audit", "--inventory", str(path), "--json").stdout.splitlines()[-1])
    assert summary["inventory_taken_at"] == of.replace(" UTC", ".000Z").replace(" ", "T")
    assert json.loads(site.run("audit", "--json").stdout.splitlines()[-1])["inventory_taken_at"] is None
    old = inventory(site.place / "old", fault_server, taken_at=taken_at - 10 * 86400)
    nothing = site.run("audit", "--inventory", str(old))
    assert nothing.code == 1
    assert nothing.stdout.startswith("Nothing was audited.")


def test_an_inventory_of_another_bucket(site: Site, fault_server: FaultServer) -> None:
    """An inventory of another bucket is refused, and so is a file that is no inventory."""
    site.ship_to(fault_server)
    site.files(1)
    assert site.run().code == 0
    path = inventory(site.place / "inventory", fault_server, taken_at=time.time(), bucket="another")
    refused = site.run("audit", "--inventory", str(path))
    assert (refused.code, refused.stdout) == (2, "")
    assert "The inventory is of the bucket another, the configuration names" in refused.stderr
    assert site.run("audit", "--inventory", str(site.config_file)).code == 2
