"""`doctor`, on fake clouds and for a user without any set-up."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from multicompute.config import without_password
from multicompute.provider import Availability
from multicompute.testing import FakeCloud

Run = Callable[..., Any]
UP = ("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--no-progress", "--json")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """A user without any credentials, configuration or ledger."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "MULTICOMPUTE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def test_doctor_succeeds_if_a_provider_is_usable(run: Run, fake_cloud: FakeCloud) -> None:
    done = run("doctor", "--json")
    assert done.status == 0
    assert set(done.document) == {"configuration", "ledger", "catalog", "providers"}
    assert all(provider["usable"] and provider["checks"] for provider in done.document["providers"])
    assert "does not exist yet" in done.document["ledger"]["detail"]
    assert "offers" in run("doctor").out


def test_doctor_opens_an_existing_ledger(run: Run, fake_cloud: FakeCloud) -> None:
    assert run(*UP, "--name", "train-1").status == 0
    ledger = run("doctor", "--json").document["ledger"]
    assert ledger == {"ok": True, "detail": fake_cloud.session.config.state}
    assert run("down", "train-1", "--yes").status == 0


def test_doctor_without_credentials_is_status_6_and_says_why(run: Run, bare: Any) -> None:
    done = run("doctor", "--json")
    assert done.status == 6
    providers = {provider["name"]: provider for provider in done.document["providers"]}
    assert "credentials" in providers["aws"]["why"]
    assert not any(provider["usable"] for provider in providers.values())
    assert list(bare.iterdir()) == []


def test_doctor_names_a_ledger_that_cannot_be_read(run: Run, bare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "state.db").write_text("this is no database " * 200)
    monkeypatch.setenv("MULTICOMPUTE_STATE", f"sqlite:///{bare}/state.db")
    done = run("doctor", "--json")
    assert done.status == 1
    assert not done.document["ledger"]["ok"]
    assert "state.db" in done.document["ledger"]["detail"]


def test_doctor_does_not_show_the_password_of_a_ledger() -> None:
    assert without_password("postgresql://me:secret@db.example/x") == "postgresql://...@db.example/x"
    assert without_password("sqlite:////home/me/state.db") == "sqlite:////home/me/state.db"


def test_a_broken_configuration_is_status_2_with_file_and_line(
    run: Run, bare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "config.toml").write_text("default_ttl = \"1d\"\nstat = 'x'\n")
    monkeypatch.setenv("MULTICOMPUTE_CONFIG", str(bare / "config.toml"))
    done = run("doctor")
    assert done.status == 2
    assert "config.toml, line 2: stat" in done.err


def test_doctor_shows_which_regions_the_account_can_use_and_keeps_the_answer(run: Run, fake_cloud: FakeCloud) -> None:
    fake_cloud.aws.set_availability(Availability("us-east-2", refused="not enabled in this account"))
    fake_cloud.aws.set_availability(
        Availability("us-east-1", zones={"use1-az1": "us-east-1c"}, offered={"p5.48xlarge": ("us-east-1c",)})
    )
    assert run(*UP, "--name", "train-1").status == 0
    aws = next(each for each in run("doctor", "--json").document["providers"] if each["name"] == "aws")
    regions = {region["region"]: region for region in aws["regions"]}
    assert regions["us-east-2"]["refused"] == "not enabled in this account"
    assert regions["us-east-1"]["zones"] == {"use1-az1": "us-east-1c"}
    (finding,) = [check for check in aws["checks"] if check["name"] == "regions"]
    assert f"{len(regions) - 1} of {len(regions)} can be used; not: us-east-2 (not enabled" in finding["detail"]
    plan = run("plan", "--gpus", "8", "--type", "p5.48xlarge", "--region", "aws:us-east-[12]", "--json").document
    assert {candidate["zone"] for candidate in plan["candidates"]} == {"us-east-1c"}
    assert run("down", "train-1", "--yes").status == 0


def test_doctor_without_a_ledger_asks_about_the_regions_and_creates_none(run: Run, fake_cloud: FakeCloud) -> None:
    assert all(provider["regions"] for provider in run("doctor", "--json").document["providers"])
    assert not fake_cloud.session.has_ledger


def test_doctor_says_which_regions_could_not_be_read(run: Run, fake_cloud: FakeCloud) -> None:
    fake_cloud.aws.faults.fail("availability", "denied-region", where={"region": "us-west-2"}, times=None)
    aws = next(each for each in run("doctor", "--json").document["providers"] if each["name"] == "aws")
    (finding,) = [check for check in aws["checks"] if check["name"] == "regions"]
    assert not finding["ok"]
    assert "us-west-2" in finding["hint"]
