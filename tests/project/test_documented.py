"""Every command has a line in the docs, an example and a test; the docs name every configuration key."""

import re
from pathlib import Path

import pytest

from multicompute import plugins
from multicompute.cli.parser import COMMANDS
from multicompute.config import KEYS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
CLI_TESTS = "\n".join(path.read_text() for path in sorted((ROOT / "tests" / "cli").glob("test_*.py")))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_in_the_readme_in_the_reference_and_in_a_test(command: str) -> None:
    assert re.search(rf"`{command}\b", README)
    assert f"## multicompute {command}" in (ROOT / "docs" / "cli.md").read_text()
    assert re.search(rf'run\("{command}"', CLI_TESTS), f"no test runs {command}"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_in_the_help_is_one_of_its_command(command: str) -> None:
    assert COMMANDS[command].example.startswith(f"multicompute {command}")


def test_every_key_of_the_configuration_is_in_the_docs() -> None:
    launching = [plugin for plugin in plugins.discover().values() if plugin.can_launch]
    assert launching
    settings = {key for plugin in launching for key in plugin.setting_names}
    assert [key for key in sorted({*KEYS, *settings}) if f"`{key}`" not in CONFIGURATION] == []
