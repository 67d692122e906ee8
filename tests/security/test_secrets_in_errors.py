"""Credentials that fail appear in no error and no log."""

import logging
import os
from pathlib import Path

import pytest

from multicompute import Cluster, errors
from multicompute.cli import main
from multicompute.config import apply_environment, load
from multicompute.provider import Selector
from multicompute.session import open_session
from tests.security import secret_marks
from tests.security.secret_marks import PROXY_PASSWORD, everything_of, found_in, leaked

DEAD_PROXY = f"http://me:{PROXY_PASSWORD}@127.0.0.1:1"


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure"])
def test_credentials_of_failed_calls_appear_nowhere(
    provider: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The real clouds are called through a proxy that does not answer, so nothing leaves this machine."""
    caplog.set_level(logging.DEBUG)
    variables = secret_marks.environment(tmp_path) | {
        "MULTICOMPUTE_CONFIG": os.devnull,
        "MULTICOMPUTE_STATE": f"sqlite:///{tmp_path}/state.db",
        "HOME": str(tmp_path),
        "HTTPS_PROXY": DEAD_PROXY,
        "https_proxy": DEAD_PROXY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AZURE_SUBSCRIPTION_ID": "00000000-0000-0000-0000-000000000000",
        "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    }
    with apply_environment(variables):
        session = open_session()
        assert session.usable[provider] == ""
        with pytest.raises(errors.MulticomputeError) as caught:
            session.provider(provider).nodes(Selector(cluster_id="c-1", region="us-east-1"))
        assert found_in(everything_of(caught.value)) == []
        found = session.provider(provider).check()
        assert not all(check.ok for check in found)
        assert found_in(repr(found)) == []
        session.close()
    assert leaked(caplog.records) == set()


def test_the_password_of_a_ledger_appears_in_no_error_and_no_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"postgresql://me:{secret_marks.POSTGRES_PASSWORD}@127.0.0.1:1/ledger"
    variables = {"MULTICOMPUTE_STATE": url, "MULTICOMPUTE_CONFIG": os.devnull, "HOME": str(tmp_path)}
    with apply_environment(variables):
        assert found_in(repr(load())) == []
        with pytest.raises(errors.LedgerError) as caught:
            Cluster.list()
        assert found_in(everything_of(caught.value)) == []
        for command in (["ls"], ["doctor"], ["doctor", "--json"]):
            assert main(command) != 0
    out, err = capsys.readouterr()
    assert "127.0.0.1:1" in out + err
    assert found_in(out + err) == []
    assert leaked(caplog.records) == set()
