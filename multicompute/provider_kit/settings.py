"""The settings of a provider as a frozen pydantic model: field types, reading and checking.

A provider describes its table `[providers.<name>]` once::

    class ExampleSettings(BaseModel):
        model_config = SETTINGS

        endpoint_url: Endpoint | None = Field(None, description="The API's endpoint. Default: the vendor's own.")
        regions: Texts = Field((), description="The only regions to use. Default: all.")
        environment: Environment = {}

and reads it with `read_settings`. Importing this module imports pydantic, so a plug-in object imports it inside its methods.
"""

import ipaddress
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SkipValidation, ValidationError

from multicompute.errors import ConfigError
from multicompute.provider import Settings
from multicompute.provider_kit.endpoints import endpoint_problem

SETTINGS: Final = ConfigDict(frozen=True, extra="forbid", defer_build=True)
"""The `model_config` of a settings model. Its schema takes 20 ms to build, so it is built only to check a setting."""

Model = TypeVar("Model", bound=BaseModel)


def _split(value: object) -> object:
    """Accept a list written as text with commas, as a variable of the environment has it."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise ValueError('must be a list of texts, ["a", "b"] or "a,b"')
    return tuple(item.strip() for item in items if item.strip())


def _blocks(items: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(item, strict=False)) for item in items)


def _usable(url: str) -> str:
    if problem := endpoint_problem(url):
        raise ValueError(problem)
    return url.rstrip("/")


Texts = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""A list of texts, also written as one text with commas."""
CidrBlocks = Annotated[Texts, AfterValidator(_blocks)]
"""A list of CIDR blocks or addresses, "10.0.0.0/8"."""
Endpoint = Annotated[str, AfterValidator(_usable)]
"""The URL of an API: https, or http on a loopback address. A slash at the end is removed."""
Environment = Annotated[SkipValidation[Mapping[str, str]], Field(exclude=True, repr=False)]
"""The environment to look for credentials in; part of the model, but not a setting."""


def setting_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the keys that the provider's table may have, for `ProviderPlugin.setting_names`."""
    return tuple(name for name, field in model.model_fields.items() if not field.exclude)


def read_settings(model: type[Model], settings: Settings, *, provider: str) -> Model:
    """Check the settings that a plug-in is opened with; a setting that is empty counts as not set.

    Args:
        model: the provider's settings model; its field `environment`, if it has one, gets the environment.
        settings: what the plug-in was given.
        provider: the provider's name, for messages.

    Raises:
        ConfigError: a key is unknown, or a value is not of its kind; names the key, and the nearest known one.
    """
    names = setting_names(model)
    values = {name: value for name, value in settings.values.items() if value not in ("", None)}
    for name in values:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
            raise ConfigError(f"[providers.{provider}] {name}: unknown key; {hint}", provider=provider)
    environment: dict[str, Any] = {"environment": settings.environment} if "environment" in model.model_fields else {}
    if not values:
        # Defaults need no check, so that a cold command without settings builds no schema.
        return model.model_construct(**environment)
    try:
        return model.model_validate({**values, **environment})
    except ValidationError as error:
        raise _config_error(error, provider) from error


def _config_error(error: ValidationError, provider: str) -> ConfigError:
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return cause
    problem = str(cause) if cause is not None else first["msg"][:1].lower() + first["msg"][1:]
    name = ".".join(str(part) for part in first["loc"][:1])
    return ConfigError(f"[providers.{provider}] {name}={first['input']!r}: {problem}", provider=provider)


def firmware_has(file: Path, mark: str) -> bool:
    """Return whether a file of the machine's firmware tables contains `mark`: a way to recognise a machine of a vendor without a network call.

    Args:
        file: a file below /sys/class/dmi/id.
        mark: a text that is in it on the vendor's machines.
    """
    try:
        return mark in file.read_text()
    except OSError:
        return False
