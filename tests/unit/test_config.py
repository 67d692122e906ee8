"""The configuration: the file, the environment, and the errors for wrong values in them."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute.config import KEYS, Config, apply_environment, load
from multicompute.errors import ConfigError


def config(tmp_path: Path, text: str, **variables: str) -> Config:
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


def test_variables_override_the_file(tmp_path: Path) -> None:
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
def test_an_error_in_the_file_is_named_with_its_place(tmp_path: Path, text: str, line: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, text)
    assert "config.toml" in str(caught.value)
    assert line in str(caught.value)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.toml, line 1: stat: unknown key; did you mean state\?"):
        config(tmp_path, 'stat = "sqlite:////x"\n')


def test_a_configuration_does_not_change(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        config(tmp_path, "").owner = "me"


def test_an_empty_value_counts_as_none(tmp_path: Path) -> None:
    found = config(tmp_path, 'state = ""\ndefault_ttl = ""\ncatalog = ""\nowner = ""\n')
    assert found.model_copy(update={"places": {}}) == config(tmp_path, "").model_copy(update={"places": {}})


def test_the_known_keys_are_the_fields_of_the_model() -> None:
    from_elsewhere = {"providers", "path", "environment", "places"}
    assert set(KEYS) == set(Config.model_fields) - from_elsewhere
    assert all(field.description for field in Config.model_fields.values())


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MULTICOMPUTE_DEFAULT_TTL"):
        config(tmp_path, "", MULTICOMPUTE_DEFAULT_TTL="soon")


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load({"HOME": str(tmp_path), "MULTICOMPUTE_CONFIG": str(tmp_path)})


def test_variables_are_set_for_the_block_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTICOMPUTE_TEST_ONE", "before")
    monkeypatch.delenv("MULTICOMPUTE_TEST_TWO", raising=False)
    with apply_environment({"MULTICOMPUTE_TEST_ONE": "inside", "MULTICOMPUTE_TEST_TWO": "new"}):
        assert os.environ["MULTICOMPUTE_TEST_ONE"] == "inside"
        assert os.environ["MULTICOMPUTE_TEST_TWO"] == "new"
    assert os.environ["MULTICOMPUTE_TEST_ONE"] == "before"
    assert "MULTICOMPUTE_TEST_TWO" not in os.environ


def test_the_environment_is_not_shown(tmp_path: Path) -> None:
    found = config(tmp_path, "", AWS_SECRET_ACCESS_KEY="hush-hush")
    assert "hush" not in repr(found)
