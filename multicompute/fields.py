"""Descriptions of model fields in addition to their types, and models that are parsed by them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from types import UnionType
from typing import Any, Literal, NamedTuple, Self, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticUndefined

from multicompute.errors import SpecError
from multicompute.units import format_duration
from multicompute.validation import unknown_name

Parser = Callable[[Any, str], Any]
"""Converts what people write for the field of this name, or raises SpecError."""


class Form(NamedTuple):
    """The written form of a kind of value. The field's type handles None.

    Attributes:
        parse: Converts the value, or raises SpecError.
        accepts: The accepted Python types, as they appear in signatures.
        metavar: What stands for the value in `--help`.
        repeats: Whether the option may be given several times on the command line.
    """

    parse: Parser
    accepts: str
    metavar: str
    repeats: bool = False


class Relaxation(NamedTuple):
    """The change of a field that NoOfferError proposes.

    Attributes:
        to: The value with which the field excludes no offer.
        rank: Which of several equally near changes is proposed: the lowest.
        limit: Whether the field is a minimum or a maximum, which is moved only as far as needed instead of being given up.
    """

    to: object
    rank: int
    limit: Literal["", "minimum", "maximum"] = ""


class Argument(NamedTuple):
    """The description of a request's field, in addition to its type, default and sentence.

    Attributes:
        identity: Whether requests that differ in this field are different requests (I6). False for fields that say
            how to carry out a request. With "if set", only other values than the default count: a field that is younger than
            the first release must not make another request of those that the ledger has.
        relaxed: How NoOfferError proposes to relax it; None if it never does.
        flag: The option on the command line; `--` and the field's name if empty.
        metavar: What stands for the value in `--help`; as for every value of its kind if empty.
        text_flag: A second option that takes the text; the first one then takes a file that contains it.
    """

    identity: bool | Literal["if set"] = True
    relaxed: Relaxation | None = None
    flag: str = ""
    metavar: str = ""
    text_flag: str = ""


class ParsedModel(BaseModel):
    """A frozen pydantic model whose fields are parsed by their `Form`, and whose errors are SpecError.

    A field without a form must be one of the choices of its type; if the type has no choices, its value is kept as it is.

    All ways to make one call `__init__`, also pydantic's own validation of a field of this type. pydantic builds its schema
    only for such a field and for JSON: it takes 20 ms, which every cold command would pay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def __init__(self, /, **values: Any) -> None:
        """Parse the values.

        Raises:
            SpecError: A name is unknown, a value is missing or wrong, or two values contradict each other.
        """
        parsed = {}
        for name, field in _fields(type(self)).items():
            value = values.get(name, field.default)
            # Defaults are parsed already: most arguments of a request are never given.
            is_default = value is field.default is not PydanticUndefined
            parsed[name] = value if is_default else _parsed(field, value, name)
        for name in values:
            if name not in parsed:
                raise SpecError(unknown_name(name, parsed), argument=name)
        self._check(parsed)
        self.__setstate__(
            {
                "__dict__": parsed,
                "__pydantic_fields_set__": set(values),
                "__pydantic_extra__": None,
                "__pydantic_private__": None,
            }
        )

    @classmethod
    def _check(cls, values: dict[str, Any]) -> None:
        """Refuse parsed values that contradict each other, and fill in those that follow from others."""

    @classmethod
    def model_validate(cls, obj: Any, **settings: Any) -> Self:
        """Return `obj` if it is a model of this class, or else one from a mapping.

        Args:
            obj: The model or mapping.
            **settings: As for any pydantic model.

        Raises:
            SpecError: As for the class itself.
        """
        with _spec_errors():
            return super().model_validate(obj, **settings)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **settings: Any) -> Self:
        """Return a model from a JSON object.

        Args:
            json_data: The JSON.
            **settings: As for any pydantic model.

        Raises:
            SpecError: It is not JSON; or as for the class itself.
        """
        with _spec_errors():
            return super().model_validate_json(json_data, **settings)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the class in one line, and show defaults as people write them: "30m", not "PT30M"."""
        described = handler(schema)
        resolved = handler.resolve_ref_schema(described)
        resolved["description"] = (cls.__doc__ or "").partition("\n")[0]
        for name, item in resolved["properties"].items():
            if "default" in item:
                item["default"] = in_json(cls.model_fields[name].default)
        return described


@contextmanager
def _spec_errors() -> Iterator[None]:
    """Raise SpecError in place of the ValidationError in which pydantic wraps it."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        cause = first.get("ctx", {}).get("error")
        raise cause if isinstance(cause, SpecError) else SpecError(first["msg"]) from None


def in_json(value: object) -> object:
    """Return a parsed value in JSON form, which its parser accepts again."""
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, dict) else value


class _Field(NamedTuple):
    parse: Parser | None
    is_optional: bool
    default: Any
    default_factory: Callable[[], Any] | None


@cache
def _fields(model: type[ParsedModel]) -> dict[str, _Field]:
    """Return what `__init__` needs of each field, which pydantic computes anew at each access."""
    return {
        name: _Field(
            parse=_parser_of(field),
            is_optional=type(None) in members_of(field.annotation),
            default=field.default,
            default_factory=cast("Callable[[], Any] | None", field.default_factory),
        )
        for name, field in model.model_fields.items()
    }


def _parsed(field: _Field, value: Any, name: str) -> Any:
    if value is PydanticUndefined:
        if field.default_factory is None:
            raise SpecError(f"{name}: missing", argument=name)
        return field.default_factory()
    if field.parse is None or (value is None and field.is_optional):
        return value
    try:
        return field.parse(value, name)
    except SpecError as error:
        # A part of the value may have named itself.
        error.argument = error.argument or name
        raise


def _parser_of(field: FieldInfo) -> Parser | None:
    form = form_of(field)
    if form is not None:
        return form.parse
    choices = [
        choice
        for member in members_of(field.annotation)
        for choice in ((False, True) if member is bool else get_args(member) if get_origin(member) is Literal else ())
    ]
    return _choice(choices) if choices else None


def _choice(choices: list[object]) -> Parser:
    def parse(value: Any, name: str) -> Any:
        if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
            raise SpecError(f"{name}={value!r}: must be one of {', '.join(map(repr, choices))}")
        return value

    return parse


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
