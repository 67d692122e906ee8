"""What the plug-in object says before anything is opened, and the tables that it brings."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from fourth_cloud import ENDPOINT, plugin
from multicompute import accelerators, errors
from multicompute.catalog.checks import problems
from multicompute.provider import Settings

FOLDER = Path(__file__).parents[1]
KEY = {"FOURTH_API_KEY": "secret"}


def test_importing_it_imports_no_sdk() -> None:
    statement = "import sys, fourth_cloud; print('fourth_sdk' in sys.modules)"
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
    with pytest.raises(errors.ConfigError, match="https"):
        plugin.open(Settings(values={"endpoint_url": plain}, environment=KEY))


def test_the_offer_tables_are_sound() -> None:
    known = [model.name for model in accelerators.known()]
    assert plugin.tables is not None
    assert list(problems("fourth", plugin.tables, accelerators=known, today=date(2026, 11, 25))) == []
