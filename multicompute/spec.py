"""What is wanted: the arguments of a request, checked and normalised once."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

from multicompute.errors import SpecError
from multicompute.node import Event
from multicompute.units import format_duration, parse_duration, parse_gib

MAX_ACCELERATORS = 1_000_000
"""More than any cloud has in one place; a larger number is a slip."""
MAX_TTL = timedelta(days=365)

_PUBLIC_KEY = re.compile(
    r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[A-Za-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]*)?"
)
_NAME = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]")


class Default(Enum):
    """Stands for "as configured" where None already means something else."""

    TTL = "default"


Progress = bool | Callable[[Event], None] | None

_NOT_IDENTITY = frozenset({"wait", "progress", "timeout", "attempt_timeout", "keep_trying", "name"})
"""Fields that say how to go about it, not what is wanted: two requests that differ only here are the same request (I6)."""


class SpecArguments(TypedDict, total=False):
    """The arguments of `Cluster.request` and `Cluster.plan` beside the first two, in the forms that people write."""

    order: Literal["price", "given"]
    reservations: str | Sequence[str]
    name: str | None
    nodes: int | None
    gpus_per_node: int | None
    min_gpu_memory: str | float | None
    vcpus: int | None
    memory: str | float | None
    spot: bool | Literal["prefer"]
    flex_start: bool
    estimates: bool
    clouds: str | Sequence[str] | None
    regions: str | Sequence[str]
    exclude: str | Sequence[str]
    placement: Literal["zone", "region", "cloud", "any"]
    interconnect: Literal["auto", "any", "rdma"]
    max_price: float | None
    max_hourly: float | None
    budget: float | None
    ttl: str | timedelta | None
    idle_timeout: str | timedelta | None
    disk: str | float | None
    image: str | None
    setup: str | None
    ssh_key: str | None
    private: bool
    tags: Mapping[str, str]
    wait: bool
    timeout: str | timedelta
    attempt_timeout: str | timedelta | None
    keep_trying: str | timedelta | None
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """What is wanted. Every field is what `Cluster.request` takes under the same name; all are checked here.

    Example:
        >>> spec = ClusterSpec(gpus=64, type="h100", regions=["eu"], spot="prefer")
        >>> spec.type
        ('h100',)

    Raises:
        SpecError: a value is not of its kind, or two contradict each other.
    """

    gpus: int | None = None
    type: tuple[str, ...] = ()
    order: Literal["price", "given"] = "price"
    reservations: tuple[str, ...] = ()
    name: str | None = None
    nodes: int | None = None
    gpus_per_node: int | None = None
    min_gpu_memory: float | None = None
    vcpus: int | None = None
    memory: float | None = None
    spot: bool | Literal["prefer"] = False
    flex_start: bool = False
    estimates: bool = True
    clouds: tuple[str, ...] | None = None
    regions: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    placement: Literal["zone", "region", "cloud", "any"] = "zone"
    interconnect: Literal["auto", "any", "rdma"] = "auto"
    max_price: float | None = None
    max_hourly: float | None = None
    budget: float | None = None
    ttl: timedelta | Default | None = Default.TTL
    idle_timeout: timedelta | None = None
    disk: float | None = None
    image: str | None = None
    setup: str | None = field(default=None, repr=False)
    ssh_key: str | None = None
    private: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    wait: bool = True
    timeout: timedelta = timedelta(minutes=30)
    attempt_timeout: timedelta | None = None
    keep_trying: timedelta | None = None
    progress: Progress = field(default=None, repr=False)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Make a spec from arguments as people write them: "12h", "80GiB", a str for a list of one.

        Raises:
            SpecError: an argument is unknown (the nearest known one is named) or not of its kind.
        """
        known = [item.name for item in fields(cls)]
        for name in arguments:
            if name not in known:
                # Only for this message: it takes a millisecond to import.
                from difflib import get_close_matches

                near = get_close_matches(name, known, n=1)
                raise SpecError(
                    f"{name}: unknown argument"
                    + (f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}")
                )
        return cls(**{name: _PARSERS.get(name, _keep)(value, name) for name, value in arguments.items()})

    def __post_init__(self) -> None:
        # Also those who call the class itself may write "12h" or a str for a list of one.
        for name, parse in _PARSERS.items():
            object.__setattr__(self, name, parse(getattr(self, name), name))
        _check_counts(self)

    def identity(self) -> dict[str, object]:
        """What makes two requests the same request (I6), in JSON terms; of the script its digest."""
        return {name: value for name, value in self.to_public_dict().items() if name not in _NOT_IDENTITY}

    def to_dict(self) -> dict[str, object]:
        """In JSON terms, without `progress`; `ClusterSpec.of(spec.to_dict())` gives the same spec."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self) if item.name != "progress"}

    def to_public_dict(self) -> dict[str, object]:
        """As `to_dict`, for eyes and logs: people put tokens into their scripts, so of `setup` there is only the digest."""
        public = self.to_dict()
        if self.setup is not None:
            # Only for those who have a script: it takes 10 ms to import.
            from hashlib import sha256

            public["setup"] = f"sha256:{sha256(self.setup.encode()).hexdigest()}"
        return public

    def ssh_public_key(self) -> str | None:
        """The line of the public key file that `ssh_key` names, None where it names none.

        Raises:
            SpecError: there is no such file, or it holds no OpenSSH public key (a private key never leaves this machine).
        """
        if self.ssh_key is None:
            return None
        try:
            text = Path(self.ssh_key).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"ssh_key={self.ssh_key!r}: can't be read: {error}") from error
        if not _PUBLIC_KEY.fullmatch(text):
            raise SpecError(
                f"ssh_key={self.ssh_key!r}: holds no OpenSSH public key", hint="name the file that ends in .pub"
            )
        return text

    def with_ttl(self, ttl: timedelta | None) -> Self:
        """The same with the default ttl filled in."""
        return replace(self, ttl=ttl)


def _plain(value: object) -> object:
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Default):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    return value


def _keep(value: Any, name: str) -> Any:
    return value


def _count(value: Any, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(f"{name}={value!r}: must be a whole number, such as {name}=8")
    if value < 1:
        raise SpecError(f"{name}={value}: must be at least 1")
    if value > MAX_ACCELERATORS:
        raise SpecError(f"{name}={value}: more than any cloud has; at most {MAX_ACCELERATORS:,}")
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    items = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,)
    for item in items:
        if not isinstance(item, str) or not item.strip():
            raise SpecError(f"{name}={value!r}: must be a name or a list of names")
    return tuple(item.strip() for item in items)


def _clouds(value: Any, name: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    clouds = _texts(value, name)
    if not clouds:
        raise SpecError("clouds=[]: names no cloud; leave it out to use every configured one")
    return clouds


def _choice(choices: tuple[object, ...]) -> Callable[[Any, str], Any]:
    def parse(value: Any, name: str) -> Any:
        if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
            raise SpecError(f"{name}={value!r}: must be one of {', '.join(map(repr, choices))}")
        return value

    return parse


def _usd(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise SpecError(f"{name}={value!r}: must be a positive amount in USD")
    return float(value)


def _size(value: Any, name: str) -> float | None:
    return None if value is None else parse_gib(value, what=name)


def _duration(value: Any, name: str) -> timedelta | None:
    return None if value is None else parse_duration(value, what=name)


def _required_duration(value: Any, name: str) -> timedelta:
    return parse_duration(value, what=name)


def _ttl(value: Any, name: str) -> timedelta | Default | None:
    if value is None or value is Default.TTL or value == Default.TTL.value:
        return None if value is None else Default.TTL
    ttl = parse_duration(value, what=name)
    if ttl > MAX_TTL:
        raise SpecError(f"ttl={value!r}: longer than a year; write ttl=None for no end of life")
    return ttl


def _name(value: Any, name: str) -> str | None:
    if value is not None and (not isinstance(value, str) or not _NAME.fullmatch(value)):
        raise SpecError(
            f"name={value!r}: must be 2 to 40 of a-z, 0-9 and '-', begin with a letter and not end with '-'"
        )
    return value


def _text(value: Any, name: str) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip() or "\0" in value):
        raise SpecError(f"{name}={value!r}: must be a text that is not empty")
    return value


def _script(value: Any, name: str) -> str | None:
    # Unlike other values it is not repeated in the message: there may be a token in it.
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise SpecError(f"{name}: must be a text that is not empty")
    if value is not None and not _is_text(value):
        raise SpecError(f"{name}: holds a NUL or half a character, which no script can")
    return value


def _is_text(value: str) -> bool:
    """Whether it is one for programs of any language: without a NUL, and nothing but whole characters."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _tags(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise SpecError(f"tags={value!r}: must be a mapping of text to text")
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str) or not key:
            raise SpecError(f"tags: {key!r}: {text!r} is not a pair of texts")
        if not (_is_text(key) and _is_text(text)):
            raise SpecError(f"tags: {key!r}: {text!r} holds a NUL or half a character")
        if key.startswith("multicompute-"):
            raise SpecError(f"tags: {key!r}: names that begin with 'multicompute-' are ours")
    return dict(sorted(value.items()))


_PARSERS: dict[str, Callable[[Any, str], Any]] = {
    "gpus": _count,
    "type": _texts,
    "order": _choice(("price", "given")),
    "reservations": _texts,
    "name": _name,
    "nodes": _count,
    "gpus_per_node": _count,
    "min_gpu_memory": _size,
    "vcpus": _count,
    "memory": _size,
    "spot": _choice((False, True, "prefer")),
    "flex_start": _choice((False, True)),
    "estimates": _choice((False, True)),
    "clouds": _clouds,
    "regions": _texts,
    "exclude": _texts,
    "placement": _choice(("zone", "region", "cloud", "any")),
    "interconnect": _choice(("auto", "any", "rdma")),
    "max_price": _usd,
    "max_hourly": _usd,
    "budget": _usd,
    "ttl": _ttl,
    "idle_timeout": _duration,
    "disk": _size,
    "image": _text,
    "setup": _script,
    "ssh_key": _text,
    "private": _choice((False, True)),
    "tags": _tags,
    "wait": _choice((False, True)),
    "timeout": _required_duration,
    "attempt_timeout": _duration,
    "keep_trying": _duration,
}


def _check_counts(spec: ClusterSpec) -> None:
    """Refuse numbers that contradict each other."""
    if not spec.type and not spec.reservations:
        raise SpecError('type: missing; write an accelerator such as type="h100", or an instance type')
    if spec.gpus_per_node is not None:
        if spec.nodes is not None and spec.gpus is None:
            object.__setattr__(spec, "gpus", spec.nodes * spec.gpus_per_node)
        if spec.gpus is not None and spec.gpus % spec.gpus_per_node:
            near = spec.gpus - spec.gpus % spec.gpus_per_node + spec.gpus_per_node
            raise SpecError(
                f"gpus={spec.gpus} is not a multiple of gpus_per_node={spec.gpus_per_node}; gpus={near} would be"
            )
        if spec.nodes is not None and spec.gpus != spec.nodes * spec.gpus_per_node:
            raise SpecError(f"nodes={spec.nodes} x gpus_per_node={spec.gpus_per_node} is not gpus={spec.gpus}")
    if spec.nodes is not None and spec.gpus is not None and spec.nodes > spec.gpus:
        raise SpecError(f"nodes={spec.nodes} is more than gpus={spec.gpus}: some nodes would have none")
