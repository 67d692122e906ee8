"""Blocks with some local clouds can't reach the others, whatever credentials the user has."""

import json
from pathlib import Path

import pytest

from multicompute import Cluster, errors
from multicompute.cli import main
from multicompute.plugins import discover
from multicompute.session import open_session
from multicompute.testing import complete_moto, local_clouds

KEY = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
WHY = "not one of `clouds` in the configuration"


@pytest.fixture(autouse=True)
def _credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of a Google account, as a developer has them."""
    key = tmp_path / "key.json"
    key.write_text(json.dumps(KEY))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "somebody")


def test_a_cloud_that_was_not_started_is_not_used() -> None:
    with local_clouds("aws"):
        assert open_session().usable["gcp"] == WHY
        with pytest.raises(errors.ConfigError, match="gcp: not one of `clouds` in the configuration"):
            open_session().provider("gcp")
        with pytest.raises(errors.AuthError, match="not one of `clouds`"):
            Cluster.request(gpus=8, type="h100", clouds=["gcp"])
        assert Cluster.plan(gpus=8, type="h100").best.provider == "aws"
        assert main(("reconcile", "--dry-run")) == 0


def test_neither_is_one_in_a_moto_of_the_user() -> None:
    moto = pytest.importorskip("moto", reason="moto is in the extra `testing`")
    with moto.mock_aws(), complete_moto():
        assert open_session().usable["gcp"] == WHY


@pytest.mark.parametrize("value", ["aws,gcp", '["aws", "gcp"]'])
def test_the_configuration_names_the_only_clouds(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MULTICOMPUTE_CLOUDS", value)
    assert {name for name, why in open_session().usable.items() if why == WHY} == discover().keys() - {"aws", "gcp"}


def test_an_unknown_cloud_in_the_configuration_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTICOMPUTE_CLOUDS", "asw")
    with pytest.raises(errors.ConfigError, match="MULTICOMPUTE_CLOUDS: asw: unknown cloud; did you mean aws"):
        Cluster.plan(gpus=8, type="h100")
