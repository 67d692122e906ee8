"""The configuration as it is written in the file and the environment, before its values are checked."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from multicompute.config._environment import PREFIX, variables
from multicompute.config._ledger_url import SQLITE
from multicompute.errors import ConfigError
from multicompute.validation import unknown_name

KEYS: Final = ("state", "default_ttl", "catalog", "owner")
"""The keys outside of tables, by name only: reading them must not load the model that checks them."""

Tables = dict[str, dict[str, object]]


class Source(NamedTuple):
    """The configured values, unchecked except for the names of keys.

    Attributes:
        path: The configuration file, whether or not it exists.
        values: Key -> value, for the keys outside of tables.
        providers: Provider -> its settings.
        environment: Every variable that was set.
        places: Dotted key -> where it was set, for messages.
    """

    path: Path
    values: Mapping[str, object]
    providers: Mapping[str, Mapping[str, object]]
    environment: Mapping[str, str]
    places: Mapping[str, str]

    @property
    def state(self) -> str:
        """The URL of the ledger.

        Raises:
            ConfigError: It is not text.
        """
        state = self.values.get("state") or f"{SQLITE}{_home(self.environment)}/.local/share/multicompute/state.db"
        if not isinstance(state, str):
            raise ConfigError(f"{self.where('state')}: state={state!r}: must be text in quotes")
        return state

    def where(self, key: str) -> str:
        """Return where `key`, such as "providers.aws.profile", was set: file and line, or the variable's name."""
        return self.places.get(key, str(self.path))


def read(environment: Mapping[str, str] | None = None, *, with_file: bool = True) -> Source:
    """Read the configuration file and the environment; variables take precedence over the file.

    Args:
        environment: The variables to read instead of the process's.
        with_file: Whether to read the file.

    Raises:
        ConfigError: The file is not valid TOML, or a key is unknown; the message names file, line and key.
    """
    environment = variables() if environment is None else dict(environment)
    path = Path(
        environment.get(PREFIX + "CONFIG") or _home(environment) / ".config/multicompute/config.toml"
    ).expanduser()
    values, places = _read_file(path) if with_file else ({}, {})
    providers = _provider_tables(values, places)
    _overlay(values, providers, places, environment)
    for key in values:
        if key not in KEYS:
            raise ConfigError(f"{places[key]}: {unknown_name(key, [*KEYS, 'providers'], what='key')}")
    return Source(path, values, providers, environment, places)


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or "~").expanduser()


def _read_file(path: Path) -> tuple[dict[str, object], dict[str, str]]:
    """Return the file's table, and for each dotted key the line that sets it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}, {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: can't be read: {error}", hint=f"fix the file, or set {PREFIX}CONFIG to another"
        ) from error
    # Imported here: it takes 5 ms, and is needed only if there is a file.
    import tomllib

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", hint="text needs quotes, lists need brackets") from error
    return table, {key: f"{path}, line {line}" for key, line in _lines(text)}


def _lines(text: str) -> Iterator[tuple[str, int]]:
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = header[1].strip() + "."
            yield section[:-1], number
        elif key := re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line):
            yield section + key[1].strip("\"'"), number


def _provider_tables(table: dict[str, object], places: dict[str, str]) -> Tables:
    found = table.pop("providers", {})
    if not isinstance(found, dict):
        raise ConfigError(
            f"{places.get('providers', 'providers')}: providers: must be tables, such as [providers.NAME]"
        )
    for name, settings in found.items():
        if not isinstance(settings, dict):
            place = places.get(f"providers.{name}", "")
            raise ConfigError(f"{place}: providers.{name}: must be a table, written [providers.{name}]")
    return {name: dict(settings) for name, settings in found.items()}


def _overlay(
    values: dict[str, object], providers: Tables, places: dict[str, str], environment: Mapping[str, str]
) -> None:
    """Apply the variables: MULTICOMPUTE_STATE, MULTICOMPUTE_PROVIDERS__<NAME>__<KEY> or, for short, MULTICOMPUTE_<NAME>__<KEY>."""
    for variable in sorted(name for name in environment if name.startswith(PREFIX)):
        parts = variable[len(PREFIX) :].lower().split("__")
        if parts[0] == "providers":
            parts = parts[1:]
        if len(parts) == 2:
            providers.setdefault(parts[0], {})[parts[1]] = environment[variable]
            places[f"providers.{parts[0]}.{parts[1]}"] = variable
        elif len(parts) == 1 and parts[0] in KEYS:
            values[parts[0]] = environment[variable]
            places[parts[0]] = variable
