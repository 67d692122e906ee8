"""Checks of requests against the models of the installed Azure SDK: unknown fields, required fields, and types."""

import enum
import functools
import importlib
import importlib.util
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from urllib.parse import parse_qs, urlsplit

from multicompute_azure.local.arm import ArmError

# Enumerations of sizes and the like: the models have the values of their release date, and the service knows more.
_OPEN = frozenset({"VirtualMachineSizeTypes", "ExtendedLocationTypes"})
_TEXT = "a string"
PACKAGES = ("compute", "network", "resource.resources")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a model: its type, and whether it is required or read-only."""

    takes: typing.Any
    is_required: bool
    is_read_only: bool


def require_models() -> None:
    """Check that the SDK is installed.

    Raises:
        ModuleNotFoundError: A package of it is missing.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(f"azure.mgmt.{package}") is None:
            raise ModuleNotFoundError(f"No module named 'azure.mgmt.{package}'", name=f"azure.mgmt.{package}")


@functools.cache
def versions(package: str, builder: str) -> frozenset[str]:
    """Return the api-versions of the request that a function of the SDK builds."""
    module = importlib.import_module(f"azure.mgmt.{package}.operations._operations")
    build: Callable[..., typing.Any] = getattr(module, f"build_{builder}_request")
    required = [
        name
        for name, parameter in signature(build).parameters.items()
        if parameter.kind is not Parameter.VAR_KEYWORD and parameter.default is Parameter.empty
    ]
    url = build(**dict.fromkeys(required, "x")).url
    return frozenset(parse_qs(urlsplit(url).query)["api-version"])


def check(document: object, package: str, model: str) -> None:
    """Check the document of a request against a model.

    Args:
        document: The document.
        package: The package below `azure.mgmt`, "compute".
        model: The name of the class, "VirtualMachineScaleSet".

    Raises:
        ArmError: The document does not fit the model.
    """
    found = getattr(importlib.import_module(f"azure.mgmt.{package}.models"), model)
    _check(document, found, "")


@functools.cache
def fields(model: type) -> Mapping[str, Field]:
    """Return the fields of a model by their names in JSON."""
    module = importlib.import_module(model.__module__)
    models = importlib.import_module(model.__module__.rsplit(".", 1)[0])
    hints = typing.get_type_hints(model, vars(module) | {"_models": models})
    found: dict[str, Field] = {}
    for owner in reversed(model.__mro__):
        for name, value in vars(owner).items():
            if type(value).__name__ != "_RestField":
                continue
            takes = hints[name]
            is_read_only = value._visibility == ["read"]
            is_required = not _is_optional(takes) and not is_read_only
            found[value._rest_name_input or name] = Field(takes, is_required, is_read_only)
    return found


def _is_optional(takes: object) -> bool:
    return type(None) in typing.get_args(takes)


def _check(value: object, takes: typing.Any, path: str) -> None:
    if takes is typing.Any or takes is object:
        return
    origin, arguments = typing.get_origin(takes), typing.get_args(takes)
    if origin in (typing.Union, types.UnionType):
        _check_union(value, arguments, path)
    elif origin in (list, dict):
        _check_each(value, origin, arguments, path)
    elif origin is typing.Literal:
        if value not in arguments:
            raise _wrong(path, f"one of {', '.join(map(str, arguments))}", value)
    elif _is_model(takes):
        _check_model(value, takes, path)
    else:
        _check_plain(value, takes, path)


def _check_each(value: object, kind: type, arguments: tuple[typing.Any, ...], path: str) -> None:
    if not isinstance(value, kind):
        raise _wrong(path, "an array" if kind is list else "an object", value)
    if isinstance(value, dict):
        for name, entry in value.items():
            _check(entry, arguments[1], f"{path}.{name}")
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            _check(entry, arguments[0], f"{path}[{number}]")


def _is_model(takes: object) -> bool:
    return isinstance(takes, type) and any(owner.__name__ in ("_Model", "Model") for owner in takes.__mro__)


def _check_union(value: object, arguments: tuple[typing.Any, ...], path: str) -> None:
    if value is None and type(None) in arguments:
        return
    choices = [entry for entry in arguments if entry is not type(None)]
    known = [entry for entry in choices if isinstance(entry, type) and issubclass(entry, enum.Enum)]
    if known:
        _check_enum(value, known[0], path)
    elif len(choices) == 1:
        _check(value, choices[0], path)
    elif not any(_fits(value, choice, path) for choice in choices):
        raise _wrong(path, "another type", value)


def _fits(value: object, takes: typing.Any, path: str) -> bool:
    try:
        _check(value, takes, path)
    except ArmError:
        return False
    return True


def _check_enum(value: object, known: type[enum.Enum], path: str) -> None:
    if not isinstance(value, str):
        raise _wrong(path, _TEXT, value)
    if known.__name__ not in _OPEN and value.lower() not in {str(entry.value).lower() for entry in known}:
        raise ArmError(
            "InvalidRequestContent",
            f'The request content was invalid and could not be deserialized: \'Error converting value "{value}" to type '
            f"'{known.__name__}'. Path '{path}'.'.",
            target=path,
        )


def _check_model(value: object, model: type, path: str) -> None:
    if not isinstance(value, dict):
        raise _wrong(path, "an object", value)
    known = fields(model)
    for name, entry in value.items():
        at = f"{path}.{name}" if path else name
        if name not in known:
            raise ArmError(
                "InvalidRequestContent",
                f"The request content was invalid and could not be deserialized: 'Could not find member '{name}' on object of "
                f"type '{model.__name__}'. Path '{at}'.'.",
                target=at,
            )
        # Read-only fields are ignored: clients send back the documents that they got.
        if not known[name].is_read_only:
            _check(entry, known[name].takes, at)
    for name, entry in known.items():
        if entry.is_required and value.get(name) is None:
            at = f"{path}.{name}" if path else name
            raise ArmError("InvalidParameter", f"Required parameter '{at}' is missing (null).", target=at)


_PLAIN: Mapping[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "a boolean"),
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
}


def _check_plain(value: object, takes: typing.Any, path: str) -> None:
    if isinstance(takes, type) and issubclass(takes, enum.Enum):
        _check_enum(value, takes, path)
        return
    # Times, durations and bytes are strings in JSON.
    kinds, title = _PLAIN.get(takes, ((str,), _TEXT))
    if not isinstance(value, kinds) or (isinstance(value, bool) and takes is not bool):
        raise _wrong(path, title, value)


def _wrong(path: str, wanted: str, value: object) -> ArmError:
    return ArmError(
        "InvalidRequestContent",
        f"The request content was invalid and could not be deserialized: 'Unexpected {type(value).__name__} where {wanted} is "
        f"expected. Path '{path}'.'.",
        target=path,
    )
