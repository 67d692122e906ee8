"""The settings of a provider as a frozen pydantic model: field types, reading and checking.

A provider describes its table `[providers.<name>]` once::

    class ExampleSettings(BaseModel):
        model_config = SETTINGS

        endpoint_url: Endpoint | None = Field(None, description="The API's endpoint. Default: the vendor's own.")
        regions: Texts = Field((), description="The only regions to use. Default: all.")
        environment: Environment = {}

and reads it with `read_settings`. Importing this module imports pydantic, so a plug-in object imports it inside its methods.
"""

import configparser
import ipaddress
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    SkipValidation,
    ValidationError,
)

from multicompute.arguments import text_list
from multicompute.errors import ConfigError, SpecError
from multicompute.provider import Settings
from multicompute.provider_kit.endpoints import endpoint_problem
from multicompute.units import parse_duration
from multicompute.validation import unknown_name

SETTINGS: Final = ConfigDict(frozen=True, extra="forbid", defer_build=True)
"""The `model_config` of a settings model. Its schema takes 20 ms to build, so it is built only to check a setting."""

Model = TypeVar("Model", bound=BaseModel)

# Longer ones are mistakes, and too long for the time stamps and durations of APIs.
_LONGEST: Final = timedelta(days=3650)
# Zero as text, as a number, and as a timedelta.
_ZERO: Final = ("0", "0s", "0m", "0h", "0d", str(timedelta(0)))
# How many characters of a value a message shows.
_SHOWN: Final = 80


def _blocks(items: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(item, strict=False)) for item in items)
    except ValueError:
        raise ValueError('must be a list of addresses or CIDR blocks, ["10.0.0.0/8"]') from None


def _usable(url: str) -> str:
    if problem := endpoint_problem(url):
        raise ValueError(problem)
    return url.rstrip("/")


def _duration(value: object) -> timedelta:
    # Without this check, pydantic would read a bare number as seconds.
    if isinstance(value, (str, timedelta)):
        with suppress(SpecError):
            duration = parse_duration(value, what="the setting")
            if duration <= _LONGEST:
                return duration
    raise ValueError('must be a duration, "90m", "12h" or "7d", longer than zero and at most "3650d"')


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII characters without spaces")
    return value


def _duration_or_zero(value: object) -> timedelta:
    return timedelta(0) if str(value).strip().lower() in _ZERO else _duration(value)


Texts = Annotated[tuple[str, ...], BeforeValidator(text_list)]
"""A list of texts, also written as one text with commas."""
CidrBlocks = Annotated[Texts, AfterValidator(_blocks)]
"""A list of CIDR blocks or addresses, "10.0.0.0/8"."""
Endpoint = Annotated[str, AfterValidator(_usable)]
"""The URL of an API: https, or http on a loopback address. A slash at the end is removed."""
Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""A duration longer than zero, "90m", "12h" or "7d"."""
DurationOrZero = Annotated[timedelta, BeforeValidator(_duration_or_zero)]
"""A duration that may also be zero, "0s"."""
Secret = Annotated[SecretStr, AfterValidator(_secret)]
"""A key that is sent in a header. Neither the repr of the settings nor a message about them shows it."""
Environment = Annotated[SkipValidation[Mapping[str, str]], Field(exclude=True, repr=False)]
"""The environment to look for credentials in; part of the model, but not a setting."""


class SshSettings(BaseModel):
    """The settings by which nodes are reached, for the model of a provider that declares `Capability.SSH`."""

    model_config = SETTINGS

    ssh_user: str | None = Field(None, description="The login user of the nodes. Default: that of the image.")
    ssh_port: int | None = Field(None, ge=1, le=65535, description="The port of the nodes' SSH servers. Default: 22.")
    ssh_proxy_jump: str | None = Field(
        None,
        description='The jump host to the nodes, "user@host:port" or a name of your SSH configuration; "head" for the head of the '
        'cluster, "none" to connect to private addresses directly. Default: none.',
    )
    ssh_proxy_command: str | None = Field(
        None,
        description="A command whose stdin and stdout lead to a node, with %h, %p, %r, {instance_id}, {region} and {zone}. Default: none.",
    )


def setting_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the keys that the provider's table may have, for `ProviderPlugin.setting_names`."""
    return tuple(name for name, field in model.model_fields.items() if not field.exclude)


def read_settings(model: type[Model], settings: Settings, *, provider: str) -> Model:
    """Check the settings that a plug-in is opened with; a setting that is empty or blank counts as not set.

    Args:
        model: The provider's settings model; its field `environment`, if it has one, gets the environment.
        settings: What the plug-in was given.
        provider: The provider's name, for messages.

    Raises:
        ConfigError: A key is unknown, or a value is not of its kind; names the key, and the nearest known one.
    """
    names = setting_names(model)
    values = {name: value for name, value in settings.values.items() if not _is_blank(value)}
    for name, value in values.items():
        if name not in names:
            raise ConfigError(f"[providers.{provider}] {unknown_name(name, names, what='key')}", provider=provider)
        if isinstance(value, str) and value != value.strip():
            raise _config_error(model, name, value, "must not begin or end with a space", provider)
    environment: dict[str, Any] = {"environment": settings.environment} if "environment" in model.model_fields else {}
    if not values:
        # Defaults need no check, so that a cold command without settings builds no schema.
        return model.model_construct(**environment)
    try:
        return model.model_validate({**values, **environment})
    except ValidationError as error:
        # The cause would show a secret that is malformed.
        hides = any(_is_secret(model, str(found["loc"][0])) for found in error.errors() if found["loc"])
        raise _first_error(model, error, provider) from (None if hides else error)


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _is_secret(model: type[BaseModel], name: str) -> bool:
    field = model.model_fields.get(name)
    return field is not None and "Secret" in str(field.annotation)


def _first_error(model: type[BaseModel], error: ValidationError, provider: str) -> ConfigError:
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return cause
    problem = str(cause) if cause is not None else first["msg"][:1].lower() + first["msg"][1:]
    name = ".".join(str(part) for part in first["loc"][:1])
    return _config_error(model, name, first["input"], problem, provider)


def _config_error(model: type[BaseModel], name: str, value: object, problem: str, provider: str) -> ConfigError:
    # Imported here: it imports logging, and only this message needs it.
    from multicompute.provider_kit.vendor_errors import one_line

    shown = "..." if _is_secret(model, name) else one_line(repr(value), _SHOWN)
    return ConfigError(f"[providers.{provider}] {name}={shown}: {problem}", provider=provider)


def firmware_has(file: Path, mark: str) -> bool:
    """Return whether a file of the machine's firmware tables contains `mark`: a way to recognise a machine of a vendor without a network call.

    Args:
        file: A file below /sys/class/dmi/id.
        mark: A text that is in it on the vendor's machines.
    """
    try:
        return mark in file.read_text()
    except OSError:
        return False


def existing_file(path: str | Path) -> Path | None:
    """Return the path of a file, with a leading "~" replaced by the home directory, None if there is no such file."""
    try:
        expanded = Path(path).expanduser()
        return expanded if expanded.is_file() else None
    except (OSError, RuntimeError, ValueError):
        # A name that is too long, "~name" of a user that does not exist, or a null character.
        return None


def read_ini(*paths: Path | None) -> configparser.RawConfigParser:
    """Return the sections of a vendor's INI files. One that can't be read counts as empty: the SDK reports why when it is used."""
    merged = configparser.RawConfigParser(strict=False)
    for path in paths:
        found = configparser.RawConfigParser(strict=False)
        with suppress(configparser.Error, OSError, UnicodeDecodeError):
            found.read([path] if path else [], encoding="utf-8")
            merged.read_dict(found)
    return merged


def read_json(path: Path | None) -> dict[str, Any]:
    """Return the object in a vendor's JSON file. One that can't be read counts as empty: the SDK reports why when it is used."""
    try:
        # Some tools write a byte order mark.
        found = json.loads(path.read_text(encoding="utf-8-sig")) if path else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
