"""Upload the file "example", look at it, download it, compare, delete it."""

import subprocess

import yaml

import s3_uploader as s3

with open("s3.yaml") as fi:
    config = yaml.safe_load(fi)

connection = s3.S3Connection(**config["s3"])
store = s3.RemoteStore(connection)

assert store.write("example", "example-in-s3")
exists, metadata = store.exists("example-in-s3")
assert exists
ok, metadata = store.read("example-in-s3", "example-from-s3")
assert ok
assert subprocess.call(["diff", "example", "example-from-s3"]) == 0
assert store.delete("example-in-s3")
exists, metadata = store.exists("example-in-s3")
assert not exists
