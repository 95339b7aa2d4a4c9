"""Settings that come over the file: environment variables, and above them the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s3_uploader import config
from s3_uploader.cli.commands import command_line
from s3_uploader.config import Config, FtpDestination, MoveTo, S3Destination
from s3_uploader.core.errors import ConfigError

SHORT = {"base_dir": "/spool", "bucket": "bucket"}
LONG = {"base_dir": "/spool", "destination": {"type": "s3", "bucket": "bucket"}}
SETTLE_PROBLEM = (
    'settle_seconds: must be a number of at least 0, or a duration such as "90s" or "6h", not "soon" '
    "(from S3_UPLOADER_SETTLE_SECONDS)"
)
FTP = {"base_dir": "/spool", "destination": {"type": "ftp", "host": "ftp.example.com"}}


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """Loads a configuration with an environment and settings over it."""

    def load(raw: object, *settings: str, **variables: str) -> Config:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(raw))
        environ = {f"S3_UPLOADER_{name}": value for name, value in variables.items()}
        return config.load(str(path), environ=environ, settings=settings)

    return load


def problems_of(load: Any, raw: object, *settings: str, **variables: str) -> list[str]:
    """What is wrong with a configuration that must be refused."""
    with pytest.raises(ConfigError) as caught:
        load(raw, *settings, **variables)
    return caught.value.problems


@pytest.mark.parametrize(
    ("variable", "key", "text", "value"),
    [
        ("SETTLE_SECONDS", "settle_seconds", "30", 30),
        ("SETTLE_SECONDS", "settle_seconds", "0.5", 0.5),
        ("HISTORY_DAYS", "history_days", "7", 7),
        ("PRUNE_EMPTY_DIRS", "prune_empty_dirs", "false", False),
        ("PRUNE_EMPTY_DIRS", "prune_empty_dirs", "", None),
        ("KEY_PREFIX", "key_prefix", "123", "123"),
        ("KEY_PREFIX", "key_prefix", "", ""),
        ("STATE_DIR", "state_dir", "/state", "/state"),
        ("STATE_DIR", "state_dir", "", None),
        ("INCLUDE", "include", '["a", "b"]', ["a", "b"]),
        ("ON_SUCCESS", "on_success", "keep", "keep"),
        ("ON_SUCCESS", "on_success", '{"move_to": "/done"}', MoveTo(move_to="/done")),
        ("LAYOUT", "layout", "tree", "tree"),
    ],
)
def test_a_text_is_read_by_the_type_of_its_key(load: Any, variable: str, key: str, text: str, value: object) -> None:
    """Environment and command line take the same values: text as it is, numbers as numbers, objects as JSON."""
    assert getattr(load(SHORT, **{variable: text}), key) == value
    assert getattr(load(SHORT, f"{key}={text}"), key) == value


def test_precedence_of_command_line_environment_and_file(load: Any) -> None:
    """Of three values for one key the one that is nearest to the person who starts the program counts."""
    raw = {**SHORT, "settle_seconds": 1, "history_days": 1, "layout": "dated"}
    loaded = load(raw, "settle_seconds=3", SETTLE_SECONDS="2", HISTORY_DAYS="2")
    assert (loaded.settle_seconds, loaded.history_days, loaded.layout) == (3, 2, "dated")


def test_the_last_of_two_settings_counts(load: Any) -> None:
    """A setting that is given twice has its last value."""
    assert load(SHORT, "settle_seconds=3", "settle_seconds=4").settle_seconds == 4


@pytest.mark.parametrize("raw", [SHORT, LONG])
@pytest.mark.parametrize("name", ["region", "destination.region"])
def test_keys_of_a_bucket_are_found_in_both_forms(load: Any, raw: object, name: str) -> None:
    """Whoever sets a key of the bucket need not know in which form the file has it."""
    expected = S3Destination(bucket="bucket", region="eu-south-2")
    assert load(raw, f"{name}=eu-south-2").destination == expected
    assert load(raw, **{name.upper().replace(".", "__"): "eu-south-2"}).destination == expected


@pytest.mark.parametrize("raw", [{**SHORT, "bucket": "old"}, {"base_dir": "/spool", "s3_bucket": "old"}, LONG])
@pytest.mark.parametrize("name", ["BUCKET", "S3_BUCKET", "DESTINATION__BUCKET"])
def test_both_names_of_a_bucket_replace_both(load: Any, raw: object, name: str) -> None:
    """The synonym of the bucket's key is one here too."""
    assert load(raw, **{name: "new"}).destination == S3Destination(bucket="new")


def test_parts_of_objects_can_be_set_alone(load: Any) -> None:
    """A dotted path, or double underscores, lead into objects; the rest of the object stays."""
    loaded = load({**SHORT, "metadata": {"a": "1"}}, "metadata.b=2", "on_failure.move_to=/f", ON_FAILURE__ATTEMPTS="5")
    assert loaded.destination.metadata == {"a": "1", "b": "2"}
    assert loaded.on_failure == MoveTo(move_to="/f", attempts=5)


def test_a_whole_and_its_parts_go_together(load: Any) -> None:
    """A destination given as JSON can have single keys over it, whatever the order of the variables."""
    whole = '{"type": "ftp", "host": "h"}'
    loaded = load({"base_dir": "/spool"}, DESTINATION__PORT="2121", DESTINATION=whole)
    assert loaded.destination == FtpDestination(host="h", port=2121)


def test_a_destination_can_come_from_the_environment_alone(load: Any) -> None:
    """The type of the destination is read before the keys that have a meaning by it."""
    variables = {"BASE_DIR": "/spool", "DESTINATION__HOST": "h", "DESTINATION__TYPE": "ftp"}
    assert load({}, **variables).destination == FtpDestination(host="h")


def test_an_unknown_variable_is_refused_with_the_nearest_one(load: Any) -> None:
    """A misspelt variable would be a default that nobody chose."""
    assert problems_of(load, SHORT, SETTEL_SECONDS="1") == [
        "S3_UPLOADER_SETTEL_SECONDS: names no known key; did you mean S3_UPLOADER_SETTLE_SECONDS?"
    ]
    assert problems_of(load, FTP, DESTINATION__HORST="h") == [
        "S3_UPLOADER_DESTINATION__HORST: names no known key; did you mean S3_UPLOADER_DESTINATION__HOST?"
    ]
    assert problems_of(load, FTP, STORAGE_CLASS="h", QQQQ="1") == [
        "S3_UPLOADER_QQQQ: names no known key",
        "S3_UPLOADER_STORAGE_CLASS: names no known key",
    ]


def test_an_unknown_setting_is_refused_with_the_nearest_one(load: Any) -> None:
    """The command line is as strict, and names the keys in its own spelling."""
    assert problems_of(load, SHORT, "settel_seconds=1", "settle_seconds") == [
        "--set settle_seconds: must be written as key=value",
        "--set settel_seconds: names no known key; did you mean settle_seconds?",
    ]


def test_every_problem_names_the_place_it_came_from(load: Any) -> None:
    """Problems of the file, the environment and the command line are told at once, each with its place."""
    raw = {**SHORT, "layout": "nonsense"}
    found = problems_of(load, raw, "tags.a=\t", "history_days=0", "bucket=a/b", SETTLE_SECONDS="soon", METADATA="{")
    assert sorted(found) == [
        "bucket: must be a name without slashes. Put a path into key_prefix (from --set bucket)",
        "history_days: must be a whole number of at least 1, not 0 (from --set history_days)",
        'layout: must be "dated", "tree" or "queue", not "nonsense"',
        'metadata: must be an object whose values are strings, not "{" (from S3_UPLOADER_METADATA)',
        SETTLE_PROBLEM,
    ]


def test_a_password_is_not_repeated(load: Any) -> None:
    """What is wrong with a secret is said without the secret."""
    found = problems_of(
        load, {**FTP, "settle_seconds": -1}, DESTINATION__PASSWORD='{"secret": 1}', DESTINATION__TLS="x"
    )
    assert "secret" not in " ".join(found)


@pytest.mark.parametrize(
    "variable",
    ["FTP_PASSWORD", "SERVICE_HOST", "SERVICE_PORT_METRICS", "PORT", "PORT_9090_TCP", "PORT_9090_TCP_ADDR"],
)
def test_variables_that_mean_something_else_are_left_alone(load: Any, variable: str) -> None:
    """The variable of the FTP password is ours, those of a Service named s3-uploader come from Kubernetes."""
    assert load(SHORT, **{variable: "x"}) == load(SHORT)


def test_a_variable_that_the_configuration_names_is_left_alone(load: Any) -> None:
    """The password may come from any variable, also from one with our prefix."""
    raw = {**FTP, "destination": {**FTP["destination"], "password_env": "S3_UPLOADER_SECRET"}}  # type: ignore[dict-item]
    assert load(raw, SECRET="x").destination.password_env == "S3_UPLOADER_SECRET"


def test_the_name_of_a_location_keeps_its_case(load: Any) -> None:
    """What a variable says of a location is said of the one with exactly that name."""
    loaded = load(SHORT, LOCATIONS__Kitchen__KEY_PREFIX="k/")
    assert {name: location.key_prefix for name, location in loaded.locations.items()} == {"Kitchen": "k/"}


def test_a_destination_whose_type_is_no_text_is_a_problem(load: Any) -> None:
    """What is laid over a destination that cannot be understood is not what the program stumbles over."""
    raw = {"base_dir": "/spool", "destination": {"type": []}}
    assert "destination.type: must be one of s3, ftp, sftp, local, not []" in problems_of(
        load, raw, DESTINATION__HOST="h"
    )


def test_a_file_that_is_no_object_is_still_said_to_be_none(load: Any) -> None:
    """Where there is no object there is nothing to lay anything over."""
    assert problems_of(load, [1], SETTLE_SECONDS="1") == [
        "must be a JSON object with at least the keys base_dir and bucket"
    ]


def test_each_command_with_a_configuration_takes_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--set works wherever a configuration file is named, and holds for that one call."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"base_dir": str(tmp_path), "bucket": "bucket"}))
    for command in ("run", "watch", "check", "status", "history"):
        assert command_line([command, str(path), "--set", "settle_seconds=never"]) == 2
        assert "(from --set settle_seconds)" in capsys.readouterr().err
    assert command_line(["run", str(path), "--dry-run"]) == 0


class TestSecrets:
    @pytest.mark.parametrize(
        "setting", ["aws_secret_access_key=HUSH", "destination.secret_key=HUSH", "access_key_id=A"]
    )
    def test_aws_credentials_have_variables_of_their_own(self, load: Any, setting: str) -> None:
        """Nobody is sent to a variable that the next start would refuse."""
        problems = problems_of(load, SHORT, setting)
        assert problems[-1].endswith(
            "; put AWS credentials into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or into ~/.aws/credentials"
        )
        assert not any("S3_UPLOADER" in problem or "HUSH" in problem for problem in problems)

    @pytest.mark.parametrize(
        ("raw", "setting", "instead"),
        [
            (FTP, "destination.password=HUSH", "S3_UPLOADER_FTP_PASSWORD"),
            (FTP, 'destination={"type": "ftp", "host": "h", "password": "HUSH"}', "S3_UPLOADER_DESTINATION"),
            (SHORT, "ping_url=https://hc.example.com/HUSH", "S3_UPLOADER_PING_URL"),
            (SHORT, "endpoint_url=https://user:HUSH@s3.example.com", "S3_UPLOADER_ENDPOINT_URL"),
            (LONG, "destination.endpoint_url=https://u:HUSH@h", "S3_UPLOADER_DESTINATION__ENDPOINT_URL"),
        ],
    )
    def test_a_secret_has_no_place_on_the_command_line(
        self, load: Any, raw: object, setting: str, instead: str
    ) -> None:
        """``--set`` refuses a secret, does not repeat it, and names the variable that holds it in private."""
        problems = problems_of(load, raw, setting)
        assert any("everybody on this machine can read" in problem and instead in problem for problem in problems)
        assert "HUSH" not in " ".join(problems)

    @pytest.mark.parametrize(
        "setting", ['tags={"token": "1"}', "destination.password_env=MINE", "destination.password_file=/etc/password"]
    )
    def test_what_only_sounds_like_one_is_taken(self, load: Any, setting: str) -> None:
        """Where a password is to be found is no secret, and tags have the names that their user gives them."""
        load(SHORT if setting.startswith("tags") else FTP, setting)

    def test_the_environment_takes_secrets(self, load: Any) -> None:
        """What the command line refuses, a variable takes."""
        assert load(SHORT, PING_URL="https://hc.example.com/HUSH").ping_url == "https://hc.example.com/HUSH"
