"""Settings are checked once, by the model that describes them, and refused with the key and the nearest known one."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, ValidationError, model_validator

from multicompute.errors import ConfigError
from multicompute.provider import Settings
from multicompute.provider_kit.settings import (
    SETTINGS,
    CidrBlocks,
    Duration,
    DurationOrZero,
    Endpoint,
    Environment,
    Texts,
    existing_file,
    firmware_has,
    read_ini,
    read_json,
    read_settings,
    setting_names,
)


class ExampleSettings(BaseModel):
    model_config = SETTINGS

    profile: str | None = Field(None, description="A profile.")
    regions: Texts = Field((), description="The only regions.")
    endpoint_url: Endpoint | None = Field(None, description="The endpoint.")
    ssh_from: CidrBlocks = Field((), description="Who may log in.")
    wait: Duration | None = Field(None, description="How long to wait.")
    room: DurationOrZero = Field(timedelta(0), description="How far a lease can be extended.")
    environment: Environment = {}

    @model_validator(mode="after")
    def _check(self) -> "ExampleSettings":
        if self.profile == "impossible":
            raise ConfigError("[providers.example] profile: can't be used", hint="choose another")
        return self


def read(values: Mapping[str, object], environment: Mapping[str, str] | None = None) -> ExampleSettings:
    return read_settings(ExampleSettings, Settings(values, environment or {}), provider="example")


def test_the_names_of_the_settings_are_those_of_the_model_without_the_environment() -> None:
    assert setting_names(ExampleSettings) == ("profile", "regions", "endpoint_url", "ssh_from", "wait", "room")


def test_a_setting_that_is_empty_or_missing_has_its_default() -> None:
    settings = read({"profile": " ", "regions": "", "endpoint_url": "", "ssh_from": None})
    assert (settings.profile, settings.regions, settings.endpoint_url, settings.ssh_from) == (None, (), None, ())


@pytest.mark.parametrize("written", ["north, west", ["north", "west"], ("north", " west "), "north,,west,"])
def test_a_list_may_be_a_list_or_a_text_with_commas(written: object) -> None:
    assert read({"regions": written}).regions == ("north", "west")


def test_the_environment_is_kept_but_neither_shown_nor_accepted_as_a_setting() -> None:
    settings = read({}, {"SECRET": "s3cret"})
    assert settings.environment["SECRET"] == "s3cret"
    assert "s3cret" not in repr(settings) and "environment" not in settings.model_dump()
    with pytest.raises(ConfigError, match="environment: unknown key"):
        read({"environment": {}})


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read({}).profile = "other"


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"\[providers.example\] regoins: unknown key; did you mean regions\?"):
        read({"regoins": "north"})
    with pytest.raises(ConfigError, match="known are profile, regions, endpoint_url, ssh_from, wait, room"):
        read({"zzz": 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"profile": 3}, r"profile=3: input should be a valid string"),
        ({"regions": 3}, r"regions=3: must be a list of texts"),
        ({"regions": [1]}, r"regions=\[1\]: must be a list of texts"),
        ({"ssh_from": "anywhere"}, r"ssh_from=.*must be a list of addresses or CIDR blocks"),
        ({"endpoint_url": "http://10.0.0.1"}, r"endpoint_url='http://10.0.0.1': plain http .* use https"),
        ({"endpoint_url": "https://example.com:99999"}, r"endpoint_url='https://example.com:99999': not a URL"),
        ({"endpoint_url": "https://[::1"}, r"endpoint_url=.*: not a URL"),
        ({"wait": "soon"}, r"wait='soon': must be a duration, \"90m\""),
        ({"wait": 90}, r"wait=90: must be a duration"),
        ({"wait": "0s"}, r"wait='0s': .*longer than zero"),
        ({"room": False}, r"room=False: must be a duration"),
        ({"room": "-1h"}, r"room='-1h': must be a duration"),
        ({"room": "4000d"}, r"room='4000d': .*at most"),
        ({"profile": "impossible"}, r"profile: can't be used \(choose another\)"),
    ],
)
def test_a_value_that_is_not_of_its_kind_is_refused_by_name(values: Mapping[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(values)
    assert str(caught.value).startswith("[providers.example] ")


def test_addresses_become_blocks_and_endpoints_lose_the_slash_at_their_end() -> None:
    settings = read({"ssh_from": "10.0.0.7, 2001:db8::/33", "endpoint_url": "https://example.com/"})
    assert settings.ssh_from == ("10.0.0.7/32", "2001:db8::/33")
    assert settings.endpoint_url == "https://example.com"


@pytest.mark.parametrize("written", [" work", "work ", "work\n", "\twork"])
def test_a_space_around_a_setting_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match=r"profile=.*: must not begin or end with a space"):
        read({"profile": written})


@pytest.mark.parametrize("written", ["0s", "0", "0h", 0, timedelta(0)])
def test_only_a_duration_that_may_be_zero_accepts_zero(written: object) -> None:
    assert read({"room": written}).room == timedelta(0)
    with pytest.raises(ConfigError, match="wait"):
        read({"wait": written})


@pytest.mark.parametrize("path", ["~no-such-user/key.json", "x" * 5000, "null\0character", "/", "missing"])
def test_what_is_no_file_is_not_found_whatever_its_name(path: str) -> None:
    assert existing_file(path) is None
    assert existing_file(__file__) == Path(__file__)


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(ConfigError, match=r"endpoint_url='x+…: not a URL") as caught:
        read({"endpoint_url": "x" * 5000})
    assert len(str(caught.value)) < 300


def test_firmware_is_recognised_by_a_mark_and_a_missing_file_is_no_match(tmp_path: Path) -> None:
    (tmp_path / "sys_vendor").write_text("Example Computers\n")
    assert firmware_has(tmp_path / "sys_vendor", "Example")
    assert not firmware_has(tmp_path / "sys_vendor", "Other")
    assert not firmware_has(tmp_path / "missing", "Example")


def test_a_vendors_file_that_can_not_be_read_counts_as_empty(tmp_path: Path) -> None:
    good, broken = tmp_path / "good", tmp_path / "broken"
    good.write_text("[work]\nproject = p\n")
    broken.write_text("[half]\nno section below this one\n=\n")
    assert read_ini(broken, None, tmp_path / "missing", good).sections() == ["work"]
    broken.write_text('{"id": ')
    good.write_text('\ufeff{"id": 1}', encoding="utf-8")
    assert (read_json(broken), read_json(None), read_json(good)) == ({}, {}, {"id": 1})
    good.write_text("[1]")
    assert read_json(good) == {}
