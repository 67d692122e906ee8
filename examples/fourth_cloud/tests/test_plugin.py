"""The plug-in object before anything is opened, and its offer tables."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from fourth_cloud._settings import ENDPOINT

from fourth_cloud import plugin
from multicompute import accelerators, errors
from multicompute.catalog.checks import problems
from multicompute.provider import Settings

FOLDER = Path(__file__).parents[1]
KEY = {"FOURTH_API_KEY": "secret"}


def test_importing_it_imports_neither_the_sdk_nor_pydantic() -> None:
    statement = "import sys, fourth_cloud; print(bool({'fourth_sdk', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", statement], cwd=FOLDER, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_it_is_configured_by_a_key_or_by_a_local_cloud() -> None:
    assert plugin.configured(Settings(environment=KEY)).ok
    assert plugin.configured(Settings(values={"endpoint_url": "http://127.0.0.1:1"})).ok
    assert "FOURTH_API_KEY" in plugin.configured(Settings()).why
    with pytest.raises(errors.AuthError):
        plugin.open(Settings())


def test_a_key_is_not_sent_in_the_clear() -> None:
    plain = ENDPOINT.replace("https:", "http:")
    with pytest.raises(errors.ConfigError, match="endpoint_url.*https"):
        plugin.open(Settings(values={"endpoint_url": plain}, environment=KEY))
    with pytest.raises(errors.ConfigError, match="FOURTH_ENDPOINT_URL.*https"):
        plugin.open(Settings(environment={**KEY, "FOURTH_ENDPOINT_URL": plain}))


def test_a_setting_that_does_not_exist_is_refused_with_the_nearest_one() -> None:
    assert plugin.setting_names == ("endpoint_url",)
    with pytest.raises(errors.ConfigError, match=r"did you mean endpoint_url\?"):
        plugin.open(Settings(values={"endpoint": "https://api.fourth.example"}, environment=KEY))


def test_the_offer_tables_are_sound() -> None:
    known = [model.name for model in accelerators.known()]
    assert plugin.tables is not None
    assert list(problems("fourth", plugin.tables, accelerators=known, today=date(2026, 11, 25))) == []
