"""Turns what pydantic finds wrong in a workload into one message that names the field and what it accepts."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from multicompute.errors import SpecError
from multicompute.text import shortened
from multicompute.validation import did_you_mean

_LONGEST: Final = 60
"""Characters of a value or a name in a message, which must not be longer than a few lines."""
_EXAMPLES: Final = {"params": "70e9", "active_params": "37e9", "tokens": "2e12", "mfu": "0.4", "sparsity": "0.5"}
_BOUNDS: Final = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
"""Kind of error -> the words for it, and the key of the bound."""


def spec_error(error: ValidationError, model: type[BaseModel]) -> SpecError:
    """Return the first error of a workload of this class."""
    # A name that is misspelled comes before the one that is missing because of it.
    first = min(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    name = str(first["loc"][0]) if first["loc"] else ""
    context = first.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, SpecError):
        return cause
    if first["type"] == "missing":
        return SpecError(f"{name}: missing: {_description(model, name)}")
    if first["type"] == "extra_forbidden":
        return _unknown(name, model)
    return SpecError(f"{name}={shown(first['input'])}: must be {_accepted(first['type'], context, model, name)}")


def shown(value: object) -> str:
    """Return a value as it is written in Python, shortened."""
    return shortened(repr(value), _LONGEST)


def _accepted(kind: str, context: Mapping[str, Any], model: type[BaseModel], name: str) -> str:
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{words} {context[key]:,}"
    if kind == "literal_error":
        return f"one of {context['expected']}"
    if kind.startswith("int_"):
        return "a whole number"
    if kind.startswith("bool_"):
        return "True or False"
    return f"a number, such as {name}={_EXAMPLES.get(name, '8')}: {_description(model, name)}"


def _description(model: type[BaseModel], name: str) -> str:
    field = model.model_fields.get(name)
    text = (field.description or "") if field else ""
    return text[:1].lower() + text[1:].rstrip(".")


def _unknown(name: str, model: type[BaseModel]) -> SpecError:
    # A workload has too many fields to list them all.
    hint = did_you_mean(name, model.model_fields) or f"{model.__name__}.model_fields has all"
    return SpecError(f"{shortened(name, _LONGEST)}: unknown argument; {hint}", hint=hint)
