"""Reads the inventory: the machines of the user, checked when it is read."""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from multicompute import accelerators
from multicompute.errors import ConfigError, SpecError
from multicompute.units import parse_gib
from multicompute.validation import unknown_name

_SITE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ADDRESS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|[0-9A-Fa-f:]+")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\$?")
_ARCHES: Final = ("x86_64", "arm64")
_HEADER: Final = re.compile(r"\s*\[\[\s*hosts\s*\]\]")


@dataclass(frozen=True, slots=True)
class Host:
    """A machine of the inventory.

    Attributes:
        address, port, user, identity_file, host_key: Where, as whom and with which key to log in, and the key that it must show.
        private_address: The address at which the other machines reach it; "" to ask the machine.
        accelerator, accelerators: The canonical name, "" for none, and how many.
        vcpus, memory_gib, fabric, arch: As of an instance type; 0 and "" where they are not given.
        hourly_usd: USD per hour.
        site: Its region and zone.
        residency: Where its data stays, in lower case; the site if it is not given.
        labels: What the user wants to see in lists.
        line: The line of the file on which it begins.
    """

    address: str
    port: int = 22
    user: str = ""
    identity_file: str = ""
    host_key: str = ""
    private_address: str = ""
    accelerator: str = ""
    accelerators: int = 0
    vcpus: int = 0
    memory_gib: float = 0.0
    fabric: str = ""
    arch: str = "x86_64"
    hourly_usd: float = 0.0
    site: str = "own"
    residency: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    line: int = 0

    @property
    def id(self) -> str:
        """The id of its node: the address, with the port unless that is 22."""
        if self.port == 22:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def instance_type(self) -> str:
        """The name of its type: "8xh100", or "96xcpu" without accelerators."""
        if self.accelerator:
            return f"{self.accelerators}x{self.accelerator}"
        return f"{self.vcpus}xcpu" if self.vcpus else "cpu"


def _text(pattern: "re.Pattern[str] | None" = None, what: str = "text in quotes") -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or (value and pattern is not None and not pattern.fullmatch(value)):
            raise ValueError(f"must be {what}")
        return value

    return parse


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return parse


def _accelerator(value: Any) -> str:
    name = _text()(value).strip()
    if not name:
        return ""
    if exact := accelerators.get(name.lower()):
        return exact.name
    found = accelerators.find(name)
    if len(found) == 1:
        return found[0].name
    if found:
        raise ValueError(f"may be {' or '.join(each.name for each in found)}; write one of them")
    near = " or ".join(accelerators.suggest(name))
    raise ValueError(f"no such accelerator{f'; did you mean {near}?' if near else ''}")


def _memory(value: Any) -> float:
    try:
        return parse_gib(value, what="memory")
    except SpecError:
        raise ValueError('must be a size, such as "1TiB"') from None


def _price(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1e6:
        raise ValueError("must be a rate in USD per hour, 0 or more")
    return float(value)


def _arch(value: Any) -> str:
    if value not in _ARCHES:
        raise ValueError(f"must be {' or '.join(_ARCHES)}")
    return str(value)


def _labels(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, (str, int, float)) for each in value.values()):
        raise ValueError('must be a table of texts, { rack = "a1" }')
    return {key: str(each) for key, each in value.items()}


_KEYS: Final[Mapping[str, Callable[[Any], object]]] = {
    "address": _text(_ADDRESS, "a host name or an address"),
    "port": _whole(1, 65535),
    "user": _text(_USER, "the name of a user"),
    "identity_file": _text(),
    "host_key": _text(re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?"), 'a public key, "ssh-ed25519 AAAA..."'),
    "private_address": _text(_ADDRESS, "a host name or an address"),
    "accelerator": _accelerator,
    "accelerators": _whole(0, 1024),
    "vcpus": _whole(0, 100_000),
    "memory": _memory,
    "fabric": _text(re.compile(r"[a-z][a-z0-9-]*"), 'the name of a fabric, such as "infiniband"'),
    "arch": _arch,
    "hourly_usd": _price,
    "site": _text(_SITE, "letters, digits, dots, dashes and underscores, at most 63"),
    "residency": _text(re.compile(r"[a-z-]+"), 'where data stays, in lower case: "eu", "us", ...'),
    "labels": _labels,
}
_FIELDS: Final = {"memory": "memory_gib"}


def read_inventory(path: Path) -> tuple[Host, ...]:
    """Return the machines of an inventory, in the order of the file; it is read again after a change.

    Raises:
        ConfigError: The file can't be read, or a machine is wrong; the message names file, line and machine.
    """
    try:
        stat = path.stat()
        return _read(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise _error(str(path), f"can't be read: {error.strerror}", "check the setting `inventory`") from error


@functools.lru_cache(maxsize=8)
def _read(path: Path, changed: int, size: int) -> tuple[Host, ...]:
    # Imported here: it takes 5 ms, and most users have no inventory.
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _error(
            str(path), f"not valid TOML: {error}", "text needs quotes; each machine begins with [[hosts]]"
        ) from error
    for key in table:
        if key != "hosts":
            raise _error(str(path), unknown_name(key, ["hosts"], what="key"), "each machine begins with [[hosts]]")
    entries = table.get("hosts", [])
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise _error(str(path), "has no machine", 'begin each with [[hosts]] and give its address = "10.0.0.11"')
    lines = [number for number, line in enumerate(text.splitlines(), start=1) if _HEADER.match(line)]
    lines += [0] * (len(entries) - len(lines))
    hosts = tuple(_host(path, entry, line) for entry, line in zip(entries, lines, strict=False))
    _require_unique(path, hosts)
    _require_alike(path, hosts)
    return hosts


def _host(path: Path, entry: Mapping[str, Any], line: int) -> Host:
    where = f"{path}, line {line}" if line else str(path)
    name = entry.get("address")
    if not isinstance(name, str) or not name:
        raise _error(where, "a machine has no address", 'add address = "10.0.0.11"')
    where = f"{where}: {name}"
    values: dict[str, Any] = {"line": line}
    for key, value in entry.items():
        if key not in _KEYS:
            raise _error(where, unknown_name(key, _KEYS, what="key"), f"known are {', '.join(_KEYS)}")
        try:
            values[_FIELDS.get(key, key)] = _KEYS[key](value)
        except ValueError as error:
            raise _error(where, f"{key}={value!r:.60}: {error}") from error
    host = Host(**values)
    if host.accelerator and not host.accelerators:
        raise _error(where, f"accelerator={host.accelerator!r} without a number", "add accelerators = 8")
    if host.accelerators and not host.accelerator:
        raise _error(where, f"accelerators={host.accelerators} of no type", 'add accelerator = "h100"')
    if not host.site:
        raise _error(where, "site is empty", 'give the site a name, site = "lab-1", or remove the key')
    return host


def _require_unique(path: Path, hosts: Iterable[Host]) -> None:
    first: dict[str, Host] = {}
    for host in hosts:
        other = first.setdefault(host.id.casefold(), host)
        if other is not host:
            lines = f"line {other.line} and line {host.line}"
            raise _error(f"{path}, {lines}", f"{host.id} is listed twice", "remove one, or correct its address or port")


def _require_alike(path: Path, hosts: Iterable[Host]) -> None:
    """Check what machines of one type, or of one site, must have in common."""
    types: dict[tuple[str, str], Host] = {}
    sites: dict[str, Host] = {}
    for host in hosts:
        where = f"{path}, line {host.line}: {host.id}"
        other = types.setdefault((host.site, host.instance_type), host)
        if other.arch != host.arch:
            text = f"arch={host.arch!r} differs from that of {other.id}, of the same type and site"
            raise _error(where, text, "give one of them another site")
        other = sites.setdefault(host.site, host)
        if other.residency != host.residency:
            text = f"residency={host.residency!r} differs from that of {other.id}, of the same site"
            raise _error(where, text, "give both the same residency, or another site")


def _error(where: str, problem: str, hint: str | None = None) -> ConfigError:
    return ConfigError(f"{where}: {problem}", provider="static", hint=hint)
