"""The kinds of values that a request takes: how people write each, how it is parsed, and its form in JSON."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, Field, PlainSerializer, Strict, ValidationInfo, WithJsonSchema
from pydantic.fields import FieldInfo

from multicompute.errors import SpecError
from multicompute.units import format_duration, parse_duration, parse_gib

MAX_ACCELERATORS: Final = 1_000_000
"""More than any cloud has in one place, so that a larger number is a mistake."""
MAX_TTL: Final = timedelta(days=365)

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Form:
    """How people write a value of one kind.

    Attributes:
        accepts: The accepted Python types, as they appear in signatures.
        metavar: What stands for the value in `--help`.
        repeats: Whether the option may be given several times on the command line.
    """

    accepts: str
    metavar: str
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Relaxation:
    """How NoOfferError proposes to relax a field.

    Attributes:
        to: The value with which the field excludes no offer.
        rank: Which of several equally near changes is proposed: the lowest.
        limit: Whether the field is a minimum or a maximum, which is moved only as far as needed instead of being given up.
    """

    to: object
    rank: int
    limit: Literal["", "minimum", "maximum"] = ""


@dataclass(frozen=True, slots=True)
class Argument:
    """What a field of a request states in addition to its type, default and description.

    Attributes:
        identity: Whether requests that differ in this field are different requests (I6). False for fields that say
            how to carry out a request.
        relaxed: How NoOfferError proposes to relax it; None if it never does.
        flag: The option on the command line; `--` and the field's name if empty.
        metavar: What stands for the value in `--help`; as for every value of its kind if empty.
    """

    identity: bool = True
    relaxed: Relaxation | None = None
    flag: str = ""
    metavar: str = ""


def form_of(field: FieldInfo) -> Form | None:
    """Return how people write the value of a field, None for plain types such as bool."""
    inner = [item for member in get_args(field.annotation) for item in getattr(member, "__metadata__", ())]
    return next((item for item in (*field.metadata, *inner) if isinstance(item, Form)), None)


def members_of(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, nested ones too, or the type itself; without annotations."""
    if hasattr(kind, "__metadata__"):
        return members_of(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return tuple(member for item in get_args(kind) for member in members_of(item))
    return (kind,)


def _parsed_by(parse: Callable[[Any, str], Any]) -> BeforeValidator:
    """Return a validator that also passes the name of the field, for messages."""

    def validate(value: Any, info: ValidationInfo) -> Any:
        return parse(value, info.field_name or "value")

    return BeforeValidator(validate)


def _parse_size(value: Any, name: str) -> float:
    return parse_gib(value, what=name)


def _parse_duration(value: Any, name: str) -> timedelta:
    return parse_duration(value, what=name)


def _parse_optional_duration(value: Any, name: str) -> timedelta | None:
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        return None
    return parse_duration(value, what=name)


def _parse_ttl(value: Any, name: str) -> timedelta | str | None:
    if value == "default":
        return "default"
    ttl = _parse_optional_duration(value, name)
    if ttl is not None and ttl > MAX_TTL:
        raise SpecError(f"{name}={value!r}: longer than a year; use {name}=None for no limit")
    return ttl


def _parse_texts(value: Any, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    items = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,)
    for item in items:
        if not isinstance(item, str) or not item.strip():
            raise SpecError(f"{name}={value!r}: must be a name or a list of names")
    return tuple(item.strip() for item in items)


def _parse_clouds(value: Any, name: str) -> tuple[str, ...]:
    clouds = _parse_texts(value, name)
    if not clouds:
        raise SpecError(f"{name}={value!r}: names no cloud; omit it to use every configured cloud")
    return clouds


def _parse_name(value: Any, name: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise SpecError(
            f"{name}={value!r}: must be 2 to 40 of a-z, 0-9 and '-', start with a letter and not end with '-'"
        )
    return value


def _parse_text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise SpecError(f"{name}={value!r}: must be text that is not empty")
    return value


def _parse_script(value: Any, name: str) -> str:
    # The message does not repeat the value, unlike others: a script may hold a token.
    if not isinstance(value, str) or not value.strip():
        raise SpecError(f"{name}: must be text that is not empty")
    if not _is_encodable(value):
        raise SpecError(f"{name}: contains a NUL or half a surrogate pair, which no script can")
    return value


def _is_encodable(value: str) -> bool:
    """Return whether programs in any language can read the text: no NUL, no half of a surrogate pair."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _parse_tags(value: Any, name: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SpecError(f"{name}={value!r}: must be a mapping of text to text")
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str) or not key:
            raise SpecError(f"{name}: {key!r}: {text!r} is not a pair of texts")
        if not (_is_encodable(key) and _is_encodable(text)):
            raise SpecError(f"{name}: {key!r}: {text!r} contains a NUL or half a surrogate pair")
        if key.startswith("multicompute-"):
            raise SpecError(f"{name}: {key!r}: names that start with 'multicompute-' are reserved")
    return dict(sorted(value.items()))


_TEXT: Final = {"type": "string"}
_LIST: Final = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_DURATION: Final = {"type": "string", "examples": ["90m", "12h", "7d"]}
_SIZE: Final = {"anyOf": [{"type": "string", "examples": ["80GiB", "1TiB"]}, {"type": "number", "exclusiveMinimum": 0}]}
_OR_NONE: Final = {"anyOf": [_DURATION, {"type": "null"}]}
_FORMATTED: Final = PlainSerializer(
    lambda value: format_duration(value) if isinstance(value, timedelta) else value, return_type=Any, when_used="json"
)

Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=1, le=MAX_ACCELERATORS), Form("int", "N")]
Usd = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False), Form("float", "USD")]
Size = Annotated[float, _parsed_by(_parse_size), WithJsonSchema(_SIZE), Form("str | float", "SIZE")]
Duration = Annotated[
    timedelta, _parsed_by(_parse_duration), _FORMATTED, WithJsonSchema(_DURATION), Form("str | timedelta", "DURATION")
]
OptionalDuration = Annotated[
    timedelta | None,
    _parsed_by(_parse_optional_duration),
    _FORMATTED,
    WithJsonSchema(_OR_NONE),
    Form("str | timedelta", "DURATION"),
]
Ttl = Annotated[
    timedelta | Literal["default"] | None,
    _parsed_by(_parse_ttl),
    _FORMATTED,
    WithJsonSchema(_OR_NONE),
    Form("str | timedelta", "DURATION"),
]
Texts = Annotated[
    tuple[str, ...], _parsed_by(_parse_texts), WithJsonSchema(_LIST), Form("str | Sequence[str]", "NAME", repeats=True)
]
Clouds = Annotated[
    tuple[str, ...],
    _parsed_by(_parse_clouds),
    WithJsonSchema(_LIST),
    Form("str | Sequence[str]", "CLOUD", repeats=True),
]
Name = Annotated[
    str,
    _parsed_by(_parse_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"}),
    Form("str", "NAME"),
]
Text = Annotated[str, _parsed_by(_parse_text), Form("str", "TEXT")]
Script = Annotated[str, _parsed_by(_parse_script), Form("str", "SCRIPT")]
Tags = Annotated[dict[str, str], _parsed_by(_parse_tags), Form("Mapping[str, str] | None", "KEY=VALUE", repeats=True)]
