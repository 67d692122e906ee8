"""A plug-in object that is described by data imports the classes of its adapter when a method needs them."""

from datetime import timedelta

import pytest
from pydantic import BaseModel

from multicompute.errors import AuthError
from multicompute.provider import Configured, ProviderPlugin, Settings, TagLimits
from multicompute.provider_kit.plugin import Plugin
from multicompute.provider_kit.settings import SETTINGS, Environment, read_settings


class ExampleSettings(BaseModel):
    model_config = SETTINGS

    key: str | None = None
    environment: Environment = {}

    @classmethod
    def of(cls, settings: Settings) -> "ExampleSettings":
        return read_settings(cls, settings, provider="example")

    def configured(self) -> Configured:
        return Configured(ok=self.key is not None, why="" if self.key else "no key")


class ExampleProvider:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings


class ExampleLocalCloud:
    pass


def plugin(*, provider: str = f"{__name__}:ExampleProvider", local_cloud: str = "") -> ProviderPlugin:
    return Plugin(
        name="example",
        tables=None,
        tag_limits=TagLimits(count=9, key_length=9, value_length=9),
        billing_minimum=timedelta(0),
        settings=f"{__name__}:ExampleSettings",
        provider=provider,
        local_cloud=local_cloud,
        sign_in="set a key",
    )


def test_the_names_of_the_settings_are_those_of_the_model() -> None:
    assert plugin().setting_names == ("key",)


def test_the_provider_is_opened_with_the_settings() -> None:
    settings = Settings({"key": "k"})
    opened = plugin().open(settings)
    assert isinstance(opened, ExampleProvider)
    assert opened.settings is settings


def test_without_credentials_it_is_not_opened_and_the_error_explains_how_to_sign_in() -> None:
    assert plugin().configured(Settings()) == Configured(ok=False, why="no key")
    with pytest.raises(AuthError, match=r"example: no key \(set a key\)"):
        plugin(provider="no.such.module:Provider").open(Settings())


def test_nothing_is_imported_before_it_is_needed() -> None:
    lazy = plugin(provider="no.such.module:Provider")
    assert lazy.configured(Settings({"key": "k"})).ok
    with pytest.raises(ModuleNotFoundError, match="'no'"):
        lazy.open(Settings({"key": "k"}))


def test_a_local_cloud_is_created_each_time_or_there_is_none() -> None:
    assert plugin().local() is None
    with_cloud = plugin(local_cloud=f"{__name__}:ExampleLocalCloud")
    assert isinstance(with_cloud.local(), ExampleLocalCloud)
    assert with_cloud.local() is not with_cloud.local()
