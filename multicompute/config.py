"""The configuration: one file and the environment. The only reader (and, for tests, writer) of the environment."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

from multicompute.errors import ConfigError, SpecError
from multicompute.units import parse_duration

PREFIX = "MULTICOMPUTE_"
_SQLITE = "sqlite:///"
_KEYS = ("state", "default_ttl", "catalog", "owner")
_PLACE = re.compile(r"[a-z][a-z0-9+]*://(?P<who>[^@?#]*@)?(?P<place>[^@?#]*)([?#][^@]*)?", re.DOTALL)
_OWNER = re.compile(r"[^A-Za-z0-9._@-]")
_scoped: ContextVar[Mapping[str, str]] = ContextVar("multicompute_variables", default=MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Config:
    """What is configured.

    Attributes:
        state: where the ledger is: "sqlite:////path" or "postgresql://...".
        default_ttl: the end of life of clusters that name none; None for none.
        catalog: a folder of offer tables to use instead of the packaged ones.
        owner: whose clusters these are, in the tag multicompute-owner; "user@host" unless configured.
        providers: provider -> its settings.
        path: the configuration file, whether or not it exists.
        environment: every variable that was set when this was read.
        places: dotted key -> where it was set, for messages.
    """

    state: str = field(repr=False)
    default_ttl: timedelta | None
    catalog: Path | None
    owner: str
    path: Path
    providers: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    places: Mapping[str, str] = field(default_factory=dict, repr=False)

    def where(self, key: str) -> str:
        """Where `key` ("providers.aws.profile") was set: "config.toml, line 3" or the variable's name."""
        return self.places.get(key, str(self.path))


def load(environment: Mapping[str, str] | None = None, *, with_file: bool = True) -> Config:
    """Read the configuration file and the environment; variables win over the file, those of `scoped_variables` over all.

    Args:
        environment: the variables to read instead of the process's.
        with_file: whether the file counts; without, what holds is what would hold if there were none.

    Raises:
        ConfigError: the file is no TOML, or a key is unknown or of the wrong kind; names file, line and key.
    """
    environment = {**os.environ, **_scoped.get()} if environment is None else dict(environment)
    home = Path(environment.get("HOME") or "~").expanduser()
    path = Path(environment.get(PREFIX + "CONFIG") or home / ".config" / "multicompute" / "config.toml").expanduser()
    table, places = _read(path) if with_file else ({}, {})
    providers = _provider_tables(table, places)
    _overlay(table, providers, places, environment)
    for key in table:
        if key not in _KEYS:
            raise ConfigError(f"{places[key]}: {key}: unknown key; known are {', '.join(_KEYS)} and [providers.NAME]")
    default_state = home / ".local" / "share" / "multicompute" / "state.db"
    return Config(
        state=_text(table, "state", places) or f"sqlite:///{default_state}",
        default_ttl=_ttl(table, places),
        catalog=Path(catalog).expanduser() if (catalog := _text(table, "catalog", places)) else None,
        owner=_owner(_text(table, "owner", places), environment),
        path=path,
        providers=MappingProxyType(providers),
        environment=MappingProxyType(environment),
        places=MappingProxyType(places),
    )


def state_file(state: str) -> Path | None:
    """The file of an SQLite ledger, None where `state` names a server."""
    return Path(state.removeprefix(_SQLITE)).expanduser() if state.startswith(_SQLITE) else None


def without_password(state: str) -> str:
    """Where a ledger is, without who may open it: fit for messages."""
    if state_file(state) is not None:
        return state
    scheme, sign, _ = state.partition("://")
    # Where it is not plain which part is the password, nothing but the scheme is shown.
    found = _PLACE.fullmatch(state)
    return f"{scheme if sign else ''}://{'...@' if found and found['who'] else ''}{found['place'] if found else '...'}"


def _read(path: Path) -> tuple[dict[str, object], dict[str, str]]:
    """The file's table, and for each dotted key the line on which it stands."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}, {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: can't be read: {error}", hint=f"mend the file, or set {PREFIX}CONFIG to another"
        ) from error
    # Only where there is a file: tomllib takes 5 ms to import.
    import tomllib

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path}: not valid TOML: {error}", hint="texts need quotes, lists square brackets"
        ) from error
    return table, {key: f"{path}, line {line}" for key, line in _lines(text)}


def _lines(text: str) -> Iterator[tuple[str, int]]:
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = header[1].strip() + "."
            yield section[:-1], number
        elif key := re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line):
            yield section + key[1].strip("\"'"), number


def _provider_tables(table: dict[str, object], places: dict[str, str]) -> dict[str, dict[str, object]]:
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
    table: dict[str, object],
    providers: dict[str, dict[str, object]],
    places: dict[str, str],
    environment: Mapping[str, str],
) -> None:
    """Let variables win: MULTICOMPUTE_STATE, MULTICOMPUTE_PROVIDERS__<NAME>__<KEY> or, shorter, MULTICOMPUTE_<NAME>__<KEY>."""
    for variable in sorted(name for name in environment if name.startswith(PREFIX)):
        parts = variable[len(PREFIX) :].lower().split("__")
        if parts[0] == "providers":
            parts = parts[1:]
        if len(parts) == 2:
            providers.setdefault(parts[0], {})[parts[1]] = environment[variable]
            places[f"providers.{parts[0]}.{parts[1]}"] = variable
        elif len(parts) == 1 and parts[0] in _KEYS:
            table[parts[0]] = environment[variable]
            places[parts[0]] = variable


def _text(table: Mapping[str, object], key: str, places: Mapping[str, str]) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{places.get(key, key)}: {key}: must be a text in quotes, not {value!r}")
    return value or None


def _ttl(table: Mapping[str, object], places: Mapping[str, str]) -> timedelta | None:
    text = _text(table, "default_ttl", places) or "24h"
    if text.lower() == "none":
        return None
    try:
        return parse_duration(text, what="default_ttl")
    except SpecError as error:
        raise ConfigError(f"{places.get('default_ttl', 'default_ttl')}: {error.message}") from error


def _owner(configured: str | None, environment: Mapping[str, str]) -> str:
    user = environment.get("USER") or environment.get("LOGNAME") or f"uid{os.getuid() if hasattr(os, 'getuid') else 0}"
    # Not socket.gethostname(): importing socket costs a cold command 3 ms.
    host = os.uname().nodename if hasattr(os, "uname") else environment.get("COMPUTERNAME", "host")
    return _OWNER.sub("-", configured or f"{user}@{host}")[:63]


@contextmanager
def scoped_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Let what this thread or asyncio task does inside the block be configured as if these variables were set.

    Others in the process, and child processes, see nothing of it: for a process that serves several configurations at once.
    """
    token = _scoped.set(MappingProxyType({**_scoped.get(), **variables}))
    try:
        yield
    finally:
        _scoped.reset(token)


@contextmanager
def apply_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set these variables for this process and its children, and put back what was there before."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
