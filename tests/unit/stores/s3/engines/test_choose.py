"""Whether moto stands between botocore and the network, and what engine that leaves."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from s3_uploader.core.errors import EngineUnavailable
from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.endpoint import Access, locate
from s3_uploader.stores.s3.engines.base import EngineSettings
from s3_uploader.stores.s3.engines.choose import Mock, active_mock
from s3_uploader.stores.s3.engines.native import make_engine

SETTINGS = EngineSettings(max_connections=1)


def access(endpoint_url: str | None) -> Access:
    """Where a bucket is."""
    endpoint = locate(
        bucket="bucket",
        endpoint_url=endpoint_url,
        region=None,
        addressing_style="auto",
        ca_bundle=None,
        special="",
        environment={},
    )
    return Access(endpoint, lambda: Credentials("key", "secret"))


def moto(*, stubs: bool = False, server: bool = False) -> SimpleNamespace:
    """What moto's module looks like."""
    return SimpleNamespace(
        botocore_stubber=SimpleNamespace(enabled=stubs), ServerModeMockAWS=SimpleNamespace(_mocks_active=server)
    )


def test_without_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not imported moto is not asked further, and nothing is imported for it."""
    monkeypatch.delitem(sys.modules, "moto.core.models", raising=False)
    assert active_mock() is Mock.NONE
    assert "moto.core.models" not in sys.modules
    assert make_engine(access(None), "auto", SETTINGS, print).name == "native"


def test_moto_that_is_not_active(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moto that is only imported changes nothing; neither does another version of it."""
    for module in (moto(), SimpleNamespace()):
        monkeypatch.setitem(sys.modules, "moto.core.models", module)
        assert make_engine(access(None), "auto", SETTINGS, print).name == "native"


def test_a_mock_of_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under ``mock_aws`` boto3 is taken, and the program's own engine refused by one sentence."""
    monkeypatch.setitem(sys.modules, "moto.core.models", moto(stubs=True))
    notices: list[str] = []
    engine = make_engine(access(None), "auto", SETTINGS, lambda level, message: notices.append(message))
    assert engine.name == "boto3"
    assert notices == ["Uploads go through boto3, because moto's mock_aws is active, which replaces botocore only."]
    with pytest.raises(EngineUnavailable, match="mock_aws is active"):
        make_engine(access(None), "native", SETTINGS, print)


def test_a_mock_of_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``mock_aws`` sends boto3's clients to a server, no engine goes to Amazon instead."""
    monkeypatch.setitem(sys.modules, "moto.core.models", moto(server=True))
    for name in ("auto", "native", "boto3"):
        with pytest.raises(EngineUnavailable, match="Set endpoint_url to moto's server"):
            make_engine(access(None), name, SETTINGS, print)
    assert make_engine(access("http://127.0.0.1:5000"), "auto", SETTINGS, print).name == "native"
