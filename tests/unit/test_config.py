"""The configuration: file and environment, and what is said of what is wrong with them."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute.config import apply_environment, load
from multicompute.errors import ConfigError


def config(tmp_path: Path, text: str, **variables: str):  # type: ignore[no-untyped-def]
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load({"HOME": str(tmp_path), "USER": "me", "MULTICOMPUTE_CONFIG": str(path), **variables})


def test_without_file_and_variables_everything_has_a_default(tmp_path: Path) -> None:
    found = load({"HOME": str(tmp_path), "USER": "me"})
    assert found.path == tmp_path / ".config" / "multicompute" / "config.toml"
    assert found.state == f"sqlite:///{tmp_path}/.local/share/multicompute/state.db"
    assert found.default_ttl == timedelta(hours=24)
    assert found.catalog is None
    assert found.providers == {}
    assert found.owner.startswith("me@")


def test_the_file_is_read(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        'state = "sqlite:////x/state.db"\ndefault_ttl = "2h"\ncatalog = "/tables"\nowner = "team nlp"\n'
        '[providers.aws]\nprofile = "lab"\nregions = ["us-east-1", "eu-west-1"]\n',
    )
    assert found.state == "sqlite:////x/state.db"
    assert found.default_ttl == timedelta(hours=2)
    assert found.catalog == Path("/tables")
    assert found.owner == "team-nlp"
    assert found.providers == {"aws": {"profile": "lab", "regions": ["us-east-1", "eu-west-1"]}}
    assert found.where("providers.aws.profile").endswith("config.toml, line 6")


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        'state = "sqlite:////x"\n[providers.aws]\nprofile = "lab"\n',
        MULTICOMPUTE_STATE="sqlite:////y",
        MULTICOMPUTE_DEFAULT_TTL="none",
        MULTICOMPUTE_PROVIDERS__AWS__PROFILE="other",
        MULTICOMPUTE_AWS__ENDPOINT_URL="http://127.0.0.1:1",
    )
    assert found.state == "sqlite:////y"
    assert found.default_ttl is None
    assert found.providers == {"aws": {"profile": "other", "endpoint_url": "http://127.0.0.1:1"}}
    assert found.where("providers.aws.profile") == "MULTICOMPUTE_PROVIDERS__AWS__PROFILE"


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ('default_ttl = "soon"\n', "line 1", "default_ttl"),
        ("default_ttl = 24\n", "line 1", "default_ttl"),
        ('\n\nstat = "sqlite:////x"\n', "line 3", "stat"),
        ('state = "x"\nstate = "y"\n', "line 2", ""),
        ("state = \n", "line 1", ""),
        ('providers = "aws"\n', "line 1", "providers"),
        ('[providers]\naws = "lab"\n', "line 2", "providers.aws"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_its_place(tmp_path: Path, text: str, line: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, text)
    assert "config.toml" in str(caught.value)
    assert line in str(caught.value)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_variable_that_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MULTICOMPUTE_DEFAULT_TTL"):
        config(tmp_path, "", MULTICOMPUTE_DEFAULT_TTL="soon")


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load({"HOME": str(tmp_path), "MULTICOMPUTE_CONFIG": str(tmp_path)})


def test_variables_are_set_for_the_block_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTICOMPUTE_TEST_ONE", "before")
    monkeypatch.delenv("MULTICOMPUTE_TEST_TWO", raising=False)
    with apply_environment({"MULTICOMPUTE_TEST_ONE": "inside", "MULTICOMPUTE_TEST_TWO": "new"}):
        assert os.environ["MULTICOMPUTE_TEST_ONE"] == "inside"
        assert os.environ["MULTICOMPUTE_TEST_TWO"] == "new"
    assert os.environ["MULTICOMPUTE_TEST_ONE"] == "before"
    assert "MULTICOMPUTE_TEST_TWO" not in os.environ


def test_the_environment_is_no_part_of_what_is_shown(tmp_path: Path) -> None:
    found = config(tmp_path, "", AWS_SECRET_ACCESS_KEY="hush-hush")
    assert "hush" not in repr(found)
