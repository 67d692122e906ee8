"""The configuration: the file, the environment, and the errors for wrong values in them."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute.config import KEYS, Config, apply_environment, load
from multicompute.errors import ConfigError
from multicompute.session import Session


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
    from_elsewhere = {"discounts", "providers", "path", "environment", "places"}
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


def test_discounts_are_tables_in_the_file(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        '[[discounts]]\ncloud = "aws"\ninstance_type = "p5*"\nregions = ["us-*"]\npercent = 32\nnodes = 16\n'
        '[[discounts]]\ncloud = "gcp"\npurchase = "spot"\nusd_per_accelerator_hour = 2.5\n',
    )
    first, second = found.discounts
    assert (first.cloud, first.instance_type, first.regions, first.percent, first.nodes) == (
        "aws",
        "p5*",
        ("us-*",),
        32,
        16,
    )
    assert (first.purchase, second.purchase, second.instance_type, second.regions) == ("on_demand", "spot", "*", ())
    assert found.where("discounts[1].purchase").endswith("line 9")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('cloud = "aws"', r"line 1: discounts\[0\]: write exactly one of percent.*found none"),
        ('cloud = "aws"\npercent = 5\nhourly_usd = 3', "found percent and hourly_usd"),
        ('cloud = "aws"\npercent = 101', r"line 3: discounts\[0\]: percent=101: must be from 0 to 100"),
        ('cloud = "aws"\npercent = -1', "must be from 0 to 100"),
        ('cloud = "aws"\nhourly_usd = -1', "at least 0"),
        ('cloud = "aws"\npercent = nan', "must be from 0 to 100"),
        ('cloud = "aws"\nhourly_usd = inf', "at least 0"),
        ('cloud = "aws"\npercents = 5', "line 3.*did you mean percent"),
        ("percent = 5", r"line 1: discounts\[0\]: cloud: missing"),
        ('cloud = "aws"\npercent = 5\nnodes = 0', "line 4.*at least 1"),
        ('cloud = "aws"\npercent = 5\npurchase = "on-demand"', "line 4.*must be one of 'on_demand'"),
    ],
)
def test_a_malformed_discount_is_named_with_its_line(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, f"[[discounts]]\n{lines}\n")


def test_discounts_must_be_an_array_of_tables(tmp_path: Path) -> None:
    for text in ("[discounts]\npercent = 5\n", "discounts = 5\n", "discounts = [5]\n"):
        with pytest.raises(ConfigError, match=r"written \[\[discounts\]\]"):
            config(tmp_path, text)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('cloud = "awss"', r"line 2: discounts\[0\]: cloud='awss': no such cloud; did you mean aws"),
        ('cloud = "aws"\nregions = ["us-esat-*"]', r"line 3: discounts\[0\]: regions='aws:us-esat-\*': no such region"),
    ],
)
def test_a_discount_for_an_unknown_place_is_an_error(tmp_path: Path, lines: str, message: str) -> None:
    found = config(tmp_path, f"[[discounts]]\n{lines}\npercent = 5\n")
    with pytest.raises(ConfigError, match=message):
        _ = Session(config=found).discounts
