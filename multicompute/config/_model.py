"""The configuration as a model: what each key means, and its checked value."""

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from multicompute.arguments import OptionalDuration, text_list
from multicompute.config._environment import default_owner
from multicompute.config._source import Source
from multicompute.errors import ConfigError, SpecError
from multicompute.fields import Form, ParsedModel

_NOT_IN_OWNER: Final = re.compile(r"[^A-Za-z0-9._@-]")
_LONGEST_OWNER: Final = 63
"""As long as a label of any cloud may be."""


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise SpecError(f"{name}={value!r}: must be text in quotes")
    return value


def _owner(value: Any, name: str) -> str:
    return _NOT_IN_OWNER.sub("-", _text(value, name))[:_LONGEST_OWNER]


def _folder(value: Any, name: str) -> Path:
    return value if isinstance(value, Path) else Path(_text(value, name)).expanduser()


def _amount(value: Any, name: str) -> float:
    """Parse an amount in USD; variables have it as text."""
    try:
        amount = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except ValueError:
        amount = math.nan
    if not math.isfinite(amount) or amount < 0:
        raise SpecError(f"{name}={value!r}: must be an amount in USD per hour, such as {name} = 100")
    return amount


def _ceiling(value: Any, name: str) -> float:
    amount = _amount(value, name)
    if not amount:
        raise SpecError(f"{name}={value!r}: allows no request; omit it for no ceiling")
    return amount


def _names(value: Any, name: str) -> tuple[str, ...]:
    try:
        return text_list(value)
    except ValueError as error:
        raise SpecError(f"{name}={value!r}: {error}") from None


class Config(ParsedModel):
    """The configuration: each key outside of tables, the tables of the providers, and where all of it was read."""

    state: Annotated[
        str,
        Form(_text, "str", "URL"),
        Field(
            description="URL of the ledger: sqlite:////path, or postgresql://... for one that several hosts share.",
            repr=False,
        ),
    ]
    default_ttl: Annotated[
        OptionalDuration,
        Field(description='Lifetime of clusters whose request names none, such as "24h"; "none" for no limit.'),
    ] = timedelta(hours=24)
    catalog: Annotated[
        Path | None,
        Form(_folder, "str", "FOLDER"),
        Field(description="Folder of offer tables to use instead of the packaged ones."),
    ] = None
    owner: Annotated[
        str,
        Form(_owner, "str", "OWNER"),
        Field(description="Owner of the resources, in the tag `multicompute-owner` of each; user@host if omitted."),
    ]
    clouds: Annotated[
        tuple[str, ...],
        Form(_names, "list", "CLOUD"),
        Field(description="The only clouds to use; all that are installed if omitted."),
    ] = ()
    confirm_above: Annotated[
        float,
        Form(_amount, "float", "USD"),
        Field(description="Price in USD per hour above which `up` without a terminal requires `--yes`."),
    ] = 100.0
    max_hourly: Annotated[
        float | None,
        Form(_ceiling, "float", "USD"),
        Field(description="Maximum price in USD per hour of any cluster; no ceiling if omitted."),
    ] = None
    providers: Annotated[
        Mapping[str, Mapping[str, object]],
        Field(description="The settings of each provider."),
    ] = Field(default_factory=dict)
    path: Annotated[Path, Field(description="The configuration file, whether or not it exists.", exclude=True)]
    environment: Annotated[
        Mapping[str, str],
        Field(description="Every variable that was set when this was read.", exclude=True, repr=False),
    ] = Field(default_factory=dict)
    places: Annotated[
        Mapping[str, str],
        Field(description="Dotted key -> where it was set, for messages.", exclude=True, repr=False),
    ] = Field(default_factory=dict)

    def where(self, key: str) -> str:
        """Return where `key`, such as "providers.aws.profile", was set: file and line, or the variable's name."""
        return self.places.get(key, str(self.path))


def checked(source: Source) -> Config:
    """Return the configuration with checked values.

    Raises:
        ConfigError: A value is wrong; the message names where it was set.
    """
    # An empty value counts as none, so that a line of the file can be enabled before its value is known.
    values: dict[str, Any] = {key: value for key, value in source.values.items() if value != ""}
    values |= {
        "state": source.state,
        "owner": values.get("owner", default_owner(source.environment)),
        "providers": source.providers,
        "path": source.path,
        "environment": source.environment,
        "places": source.places,
    }
    try:
        return Config(**values)
    except SpecError as error:
        raise ConfigError(f"{source.where(error.argument or '')}: {error.message}", argument=error.argument) from None
