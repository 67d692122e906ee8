"""The configuration as it is written in the file and the environment, before its values are checked."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from multicompute.config._environment import PREFIX, variables
from multicompute.config._ledger_url import SQLITE
from multicompute.errors import ConfigError
from multicompute.validation import did_you_mean, unknown_name

KEYS: Final = ("state", "default_ttl", "catalog", "owner", "clouds", "confirm_above", "max_hourly")
"""The keys outside of tables, by name only: reading them must not load the model that checks them."""
_SECTION: Final = "providers"
_NODE_VARIABLES: Final = frozenset(
    PREFIX + name for name in ("RANK", "NODES", "GPUS_PER_NODE", "HEAD_ADDR", "NODE_ADDRS", "CLUSTER")
)
"""Variables that commands on the nodes get. They configure nothing."""

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
        return _place(key, self.places, self.path)


def read(environment: Mapping[str, str] | None = None, *, with_file: bool = True) -> Source:
    """Read the configuration file and the environment; variables take precedence over the file.

    Args:
        environment: The variables to read instead of the process's.
        with_file: Whether to read the file.

    Raises:
        ConfigError: The file is not valid TOML, `MULTICOMPUTE_CONFIG` names none, or a key or variable is unknown; the
            message names file, line and key, or the variable.
    """
    environment = variables() if environment is None else dict(environment)
    named = environment.get(PREFIX + "CONFIG")
    path = Path(named or _home(environment) / ".config/multicompute/config.toml").expanduser()
    values, places = _read_file(path, must_exist=bool(named)) if with_file else ({}, {})
    for key in values:
        if key not in KEYS and key != _SECTION:
            raise _unknown_key(key, values[key], _place(key, places, path))
    providers = _provider_tables(values, places, path)
    _overlay(values, providers, places, environment)
    return Source(path, values, providers, environment, places)


def _place(key: str, places: Mapping[str, str], path: Path) -> str:
    """Return where a key outside of tables was set: at the first line that mentions it, also as part of a longer key."""
    return places.get(key) or next((places[name] for name in places if name.startswith(f"{key}.")), str(path))


def _unknown_key(key: str, value: object, place: str) -> ConfigError:
    if isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
        provider = next(name for name, each in value.items() if isinstance(each, dict))
        return ConfigError(
            f"{place}: [{key}.{provider}]: unknown section; did you mean [{_SECTION}.{provider}]?", argument=key
        )
    if isinstance(value, dict):
        return ConfigError(
            f"{place}: [{key}]: unknown section; the settings of a provider are in [{_SECTION}.{key}]", argument=key
        )
    return ConfigError(f"{place}: {unknown_name(key or repr(key), [*KEYS, _SECTION], what='key')}", argument=key)


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or "~").expanduser()


def _read_file(path: Path, *, must_exist: bool) -> tuple[dict[str, object], dict[str, str]]:
    """Return the file's table, and for each dotted key the line that sets it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if not must_exist:
            return {}, {}
        raise ConfigError(
            f"{PREFIX}CONFIG={path}: no such file", hint="`multicompute init` writes it; or unset the variable"
        ) from None
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"{path}: can't be read: {error}", hint=f"fix the file, or set {PREFIX}CONFIG to another"
        ) from error
    if not text.strip():
        return {}, {}
    # Imported here: it takes 5 ms, and is needed only if there is something to parse.
    import tomllib

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", hint="text needs quotes, lists need brackets") from error
    return table, {key: f"{path}, line {line}" for key, line in _lines(text)}


def _lines(text: str) -> Iterator[tuple[str, int]]:
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[{1,2}([^\[\]]+)\]", line):
            section = header[1].strip() + "."
            yield section[:-1], number
        elif key := re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line):
            yield section + key[1].strip("\"'"), number


def _provider_tables(table: dict[str, object], places: dict[str, str], path: Path) -> Tables:
    found = table.pop(_SECTION, {})
    if not isinstance(found, dict):
        raise ConfigError(
            f"{_place(_SECTION, places, path)}: {_SECTION}: must be tables, such as [{_SECTION}.NAME]",
            argument=_SECTION,
        )
    for name, settings in found.items():
        if not isinstance(settings, dict):
            place = _place(f"{_SECTION}.{name}", places, path)
            raise ConfigError(f"{place}: {_SECTION}.{name}: must be a table, written [{_SECTION}.{name}]")
    return {name: dict(settings) for name, settings in found.items()}


def _overlay(
    values: dict[str, object], providers: Tables, places: dict[str, str], environment: Mapping[str, str]
) -> None:
    """Apply the variables: MULTICOMPUTE_STATE, MULTICOMPUTE_PROVIDERS__<NAME>__<KEY> or, for short, MULTICOMPUTE_<NAME>__<KEY>.

    Raises:
        ConfigError: A variable with the prefix is none of these.
    """
    for variable in sorted(name for name in environment if name.startswith(PREFIX)):
        parts = variable[len(PREFIX) :].lower().split("__")
        if parts[0] == _SECTION and len(parts) > 1:
            parts = parts[1:]
        if len(parts) == 2 and all(parts):
            providers.setdefault(parts[0], {})[parts[1]] = environment[variable]
            places[f"{_SECTION}.{parts[0]}.{parts[1]}"] = variable
        elif len(parts) == 1 and parts[0] in KEYS:
            values[parts[0]] = environment[variable]
            places[parts[0]] = variable
        elif variable != f"{PREFIX}CONFIG" and variable not in _NODE_VARIABLES:
            raise _unknown_variable(variable)


def _unknown_variable(variable: str) -> ConfigError:
    # Without the prefix, which would make all of them similar.
    name = variable[len(PREFIX) :]
    first, *rest = name.split("__")
    setting = "__".join(part for part in rest if part) or name.partition("_")[2]
    near = did_you_mean(name, [key.upper() for key in (*KEYS, "config")])
    if len(rest) == 2 and did_you_mean(first, [_SECTION.upper()]):
        near = f"did you mean {_SECTION.upper()}__{setting}?"
    elif not near and setting:
        near = f"did you mean {name.partition('_')[0]}__{setting}?"
    hint = near.replace("did you mean ", f"did you mean {PREFIX}") or f"known are {', '.join(KEYS).upper()}"
    return ConfigError(
        f"{variable}: unknown variable; {hint}",
        argument=variable,
        hint=f"a setting of a provider is {PREFIX}<PROVIDER>__<KEY>, with two underscores",
    )
