"""The kinds of values that a request takes: how people write each, how it is parsed, and its form in JSON."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field, PlainSerializer, WithJsonSchema

from multicompute.errors import SpecError
from multicompute.fields import Form, in_json
from multicompute.units import parse_duration, parse_gib

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema

    from multicompute.workloads import AnyWorkload

MAX_ACCELERATORS: Final = 1_000_000
"""More than any cloud has in one place, so that a larger number is a mistake."""
MAX_TTL: Final = timedelta(days=365)
_MOST_HOURS: Final = 1_000_000

_NAME: Final = r"[a-z][a-z0-9-]{0,38}[a-z0-9]"


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(f"{name}={value!r}: must be a whole number, such as {name}=8")
    if value < 1:
        raise SpecError(f"{name}={value}: must be at least 1")
    if value > MAX_ACCELERATORS:
        raise SpecError(f"{name}={value}: more than any cloud has; at most {MAX_ACCELERATORS:,}")
    return value


class Data(NamedTuple):
    """Data that the cluster needs.

    Attributes:
        url: Where it is, for people.
        place: The cloud and region that hold it, such as "aws:us-east-1".
        size_gib: Its size.
    """

    url: str
    place: str
    size_gib: float


def _data(value: Any, name: str) -> tuple[Data, ...]:
    """Parse triples of URL, place and size, or texts "URL=PLACE:SIZE" as on the command line."""
    if value is None:
        return ()
    items = [value] if isinstance(value, str) or _is_triple(value) else value
    if isinstance(items, Mapping) or not isinstance(items, Iterable):
        raise SpecError(f"{name}={value!r}: {_DATA_FORM}")
    return tuple(_data_item(item, name) for item in items)


def _is_triple(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and isinstance(value[1], str)
        and ":" in value[1]
        and ("=" not in str(value[0]))
    )


def _data_item(item: Any, name: str) -> Data:
    if isinstance(item, str):
        url, _, rest = item.rpartition("=")
        place, _, size = rest.rpartition(":")
    elif isinstance(item, (list, tuple)) and len(item) == 3:
        url, place, size = item
    else:
        raise SpecError(f"{name}: {item!r}: {_DATA_FORM}")
    if not all(isinstance(text, str) and text.strip() for text in (url, place)):
        raise SpecError(f"{name}: {item!r}: {_DATA_FORM}")
    return Data(url.strip(), place.strip(), parse_gib(size, what=name))


_DATA_FORM: Final = 'write URL=PROVIDER:REGION:SIZE, with a size such as "20TiB"'


def _hours(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _MOST_HOURS:
        raise SpecError(f"{name}={value!r}: must be a positive number of hours, such as {name}=200")
    return float(value)


def _lost_hours(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MOST_HOURS:
        raise SpecError(f"{name}={value!r}: must be a number of hours, such as {name}=0.5")
    return float(value)


def _usd(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise SpecError(f"{name}={value!r}: must be a positive amount in USD")
    return float(value)


def _size(value: Any, name: str) -> float:
    return parse_gib(value, what=name)


def _duration(value: Any, name: str) -> timedelta:
    return parse_duration(value, what=name)


def _optional_duration(value: Any, name: str) -> timedelta | None:
    if isinstance(value, str) and value.lower() == "none":
        return None
    return parse_duration(value, what=name)


def _ttl(value: Any, name: str) -> timedelta | str | None:
    if value == "default":
        return "default"
    ttl = _optional_duration(value, name)
    if ttl is not None and ttl > MAX_TTL:
        raise SpecError(f"{name}={value!r}: longer than a year; use {name}=None for no limit")
    return ttl


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    items = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,)
    for item in items:
        if not isinstance(item, str) or not item.strip():
            raise SpecError(f"{name}={value!r}: must be a name or a list of names")
    # Names contain no comma: "aws,gcp" is a list as other tools write it.
    return tuple(part.strip() for item in items for part in item.split(",") if part.strip())


def _clouds(value: Any, name: str) -> tuple[str, ...]:
    clouds = _texts(value, name)
    if not clouds:
        raise SpecError(f"{name}={value!r}: names no cloud; omit it to use every configured cloud")
    return clouds


def _name(value: Any, name: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(_NAME, value):
        raise SpecError(
            f"{name}={value!r}: must be 2 to 40 of a-z, 0-9 and '-', start with a letter and not end with '-'"
        )
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise SpecError(f"{name}={value!r}: must be text that is not empty")
    return value


def _script(value: Any, name: str) -> str:
    if isinstance(value, PurePath):
        value = _file(Path(value), name)
    # The message does not repeat the value, unlike others: a script may hold a token.
    if not isinstance(value, str) or not value.strip():
        raise SpecError(f"{name}: must be text that is not empty")
    if not _is_encodable(value):
        raise SpecError(f"{name}: contains a NUL or half a surrogate pair, which no script can")
    return value


def _file(path: Path, name: str) -> str:
    """Return the text of a script, which is read once: the file may change before the nodes boot."""
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeError, RuntimeError) as error:
        # RuntimeError: the home of an unknown user.
        why = getattr(error, "strerror", None) or type(error).__name__
        raise SpecError(
            f"{name}{shown_path(str(path))}: can't be read: {why}",
            hint="give a file that exists, or the text of the script (--setup-text on the command line)",
        ) from error


def read_table(path: Path) -> dict[str, Any]:
    """Return the arguments in a TOML or JSON file.

    Raises:
        SpecError: The file can't be read, or is no table of arguments.
    """
    if path.suffix not in (".toml", ".json"):
        raise SpecError(f"{path}: must be a .toml or .json file")
    try:
        table = _parsed(path.expanduser().read_text(encoding="utf-8"), path.suffix)
    except (OSError, UnicodeError) as error:
        raise SpecError(f"{path}: can't be read: {error}") from error
    except ValueError as error:
        raise SpecError(f"{path}: not valid {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(table, dict):
        raise SpecError(f'{path}: must be an object whose keys are arguments, such as {{"gpus": 8}}')
    return table


def _parsed(text: str, suffix: str) -> Any:
    if suffix == ".json":
        return json.loads(text)
    # Imported here: few programs read a file.
    import tomllib

    return tomllib.loads(text)


def text_list(value: object) -> tuple[str, ...]:
    """Return the texts of a list of the configuration; a variable of the environment has it in JSON or with commas.

    Raises:
        ValueError: It is not a list of texts.
    """
    items: object = value.split(",") if isinstance(value, str) else value
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            items = json.loads(value)
        except ValueError:
            items = None
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise ValueError('must be a list of texts, ["a", "b"] or "a,b"')
    return tuple(item.strip() for item in items if item.strip())


def shown_path(path: str) -> str:
    """Return a path as "='~/key.pub'" for a message, "" if it has white space: then it may be a script or a key, which no message repeats."""
    return "" if re.search(r"\s", path) else f"={path!r}"


def _is_encodable(value: str) -> bool:
    """Return whether programs in any language can read the text: no NUL, no half of a surrogate pair."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _tags(value: Any, name: str) -> dict[str, str]:
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


def _image(value: Any, name: str) -> str | dict[str, str]:
    """Return one image for every place, or place -> image: a cloud, a region or "CLOUD:REGION", globs allowed."""
    if isinstance(value, (list, tuple)):
        value = _image_of_options(value, name)
    if isinstance(value, str):
        return _text(value, name)
    if not isinstance(value, Mapping) or not value:
        raise SpecError(f"{name}={value!r}: must be an image, or a mapping of clouds or regions to images")
    found: dict[str, str] = {}
    for place, image in value.items():
        if not isinstance(place, str) or not place.strip():
            raise SpecError(f"{name}: {place!r} is not a cloud or region")
        if isinstance(image, Mapping):
            found |= {f"{place}:{region}": _text(each, f"{name}[{region!r}]") for region, each in image.items()}
        else:
            found[place] = _text(image, f"{name}[{place!r}]")
    return dict(sorted(found.items()))


def _image_of_options(values: Iterable[Any], name: str) -> Any:
    """Return the image or images of options on the command line: `IMAGE`, or `PLACE=IMAGE` for each place."""
    texts = list(values)
    pairs = [text.partition("=") for text in texts if isinstance(text, str) and "=" in text]
    if len(texts) == 1 and not pairs:
        return texts[0]
    if not texts or len(pairs) != len(texts):
        raise SpecError(f"{name}={texts!r}: several images need a cloud or region each: us-east-1=ami-1")
    return {place: image for place, _, image in pairs}


class _WorkloadSchema:
    """The JSON schema of a workload, which is made when it is asked for: a request must not wait until it is loaded."""

    @staticmethod
    def __get_pydantic_json_schema__(schema: "CoreSchema", handler: "GetJsonSchemaHandler") -> dict[str, Any]:
        from multicompute.workloads.description import WORKLOADS

        kinds = []
        for kind in WORKLOADS.values():
            found = kind.model_json_schema()
            # In Python, the class says what the task is.
            required = ["task", *found.get("required", ())]
            kinds.append({**found, "required": required, "description": (kind.__doc__ or "").partition("\n")[0]})
        return {"anyOf": [*kinds, {"type": "string", "description": "A .toml or .json file with these arguments."}]}


def _workload(value: Any, name: str) -> Any:
    from multicompute.workloads.description import workload_of

    if not isinstance(value, (str, Path)):
        return workload_of(value)
    if Path(value).suffix not in (".toml", ".json"):
        raise SpecError(f"{name}={str(value)!r}: must be a workload, or a .toml or .json file with its arguments")
    try:
        return workload_of(read_table(Path(value)))
    except SpecError as error:
        where = str(value)
        error.message = error.message if error.message.startswith(where) else f"{where}: {error.message}"
        raise


_TEXT: Final = {"type": "string"}
_IMAGES: Final = {
    "type": "object",
    "additionalProperties": {"anyOf": [_TEXT, {"type": "object", "additionalProperties": _TEXT}]},
}
_LIST: Final = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_DURATION: Final = {"type": "string", "examples": ["90m", "12h", "7d"]}
_SIZE: Final = {"anyOf": [{"type": "string", "examples": ["80GiB", "1TiB"]}, {"type": "number", "exclusiveMinimum": 0}]}
_OR_NONE: Final = {"anyOf": [_DURATION, {"type": "null"}]}
_DATA: Final = {
    "type": "array",
    "items": {
        "anyOf": [
            {"type": "array", "prefixItems": [_TEXT, _TEXT, _SIZE], "minItems": 3, "maxItems": 3},
            {"type": "string", "examples": ["s3://bucket/tokens=PROVIDER:REGION:20TiB"]},
        ]
    },
}
_IN_JSON: Final = PlainSerializer(in_json, return_type=Any, when_used="json")

Count = Annotated[int, Field(ge=1, le=MAX_ACCELERATORS), Form(_count, "int", "N")]
Usd = Annotated[float, Field(gt=0), Form(_usd, "float", "USD")]
Size = Annotated[float, WithJsonSchema(_SIZE), Form(_size, "str | float", "SIZE")]
Duration = Annotated[timedelta, _IN_JSON, WithJsonSchema(_DURATION), Form(_duration, "str | timedelta", "DURATION")]
OptionalDuration = Annotated[
    timedelta | None, _IN_JSON, WithJsonSchema(_OR_NONE), Form(_optional_duration, "str | timedelta", "DURATION")
]
Ttl = Annotated[
    timedelta | Literal["default"] | None,
    _IN_JSON,
    WithJsonSchema(_OR_NONE),
    Form(_ttl, "str | timedelta", "DURATION"),
]
Texts = Annotated[tuple[str, ...], WithJsonSchema(_LIST), Form(_texts, "str | Sequence[str]", "NAME", repeats=True)]
Clouds = Annotated[tuple[str, ...], WithJsonSchema(_LIST), Form(_clouds, "str | Sequence[str]", "CLOUD", repeats=True)]
Name = Annotated[str, Field(pattern=f"^{_NAME}$"), Form(_name, "str", "NAME")]
Text = Annotated[str, Form(_text, "str", "TEXT")]
Image = Annotated[
    str | dict[str, str],
    WithJsonSchema({"anyOf": [_TEXT, _IMAGES]}),
    Form(_image, "str | Mapping[str, str | Mapping[str, str]]", "[PLACE=]IMAGE", repeats=True),
]
DataSources = Annotated[
    tuple[Data, ...],
    WithJsonSchema(_DATA),
    Form(_data, "Sequence[tuple[str, str, str | float]]", "URL=PLACE:SIZE", repeats=True),
]
Hours = Annotated[float, Field(gt=0, le=_MOST_HOURS), Form(_hours, "float", "HOURS")]
LostHours = Annotated[float, Field(ge=0, le=_MOST_HOURS), Form(_lost_hours, "float", "HOURS")]
Script = Annotated[str, Form(_script, "str | Path", "SCRIPT")]
Tags = Annotated[dict[str, str], Form(_tags, "Mapping[str, str] | None", "KEY=VALUE", repeats=True)]
if TYPE_CHECKING:
    Workload = AnyWorkload
else:
    Workload = Annotated[
        Any, _WorkloadSchema(), Form(_workload, "AnyWorkload | Mapping[str, Any] | str | Path", "FILE")
    ]
