"""Checks of requests against Google's discovery documents, if google-api-python-client is installed.

Without this package (it is large, and nothing else needs it) only the fields that the handlers read are checked.
"""

import base64
import binascii
import functools
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multicompute_gcp.local.responses import GcpError, Json

_SYSTEM_PARAMETERS = frozenset({"$alt", "$fields", "$prettyPrint", "$key"})
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
_INTEGERS: Mapping[str, tuple[int, int]] = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
_DURATION = re.compile(r"-?\d+(\.\d{1,9})?s")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


@functools.cache
def document(name: str) -> "Document | None":
    """Return a discovery document ("compute.v1", "tpu.v2"), or None if it is not installed."""
    found = importlib.util.find_spec("googleapiclient")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0], "discovery_cache", "documents", f"{name}.json")
    return Document(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


class Document:
    """The methods and schemas of one API.

    Attributes:
        base: The path of the API.
        methods: Every method by its id, "compute.instances.list".
    """

    def __init__(self, content: Json) -> None:
        """Read the content of a discovery document."""
        self._schemas: Json = content["schemas"]
        self._parameters: Json = content["parameters"]
        self.base: str = content["servicePath"]
        self.methods: dict[str, Json] = {}
        self._collect(content)

    def _collect(self, node: Json) -> None:
        for method in node.get("methods", {}).values():
            self.methods[method["id"]] = method
        for child in node.get("resources", {}).values():
            self._collect(child)

    def check(self, identifier: str, query: Mapping[str, list[str]], body: object) -> None:
        """Check a call against its method.

        Raises:
            GcpError: A parameter or field is unknown or malformed; the message is Google's.
        """
        method = self.methods[identifier]
        self._check_query(method, query)
        schema = method.get("request")
        if schema is not None:
            self._check_object({} if body is None else body, self._schemas[schema["$ref"]], "")
        elif body:
            raise _bad('Invalid JSON payload received. Unknown name "": Root element must be a message.')

    def check_answer(self, identifier: str, response: object) -> None:
        """Check a response of the local cloud against its method.

        Raises:
            GcpError: It has a field that Google's response cannot have.
        """
        self._check_object(response, self._schemas[self.methods[identifier]["response"]["$ref"]], "")

    def _check_query(self, method: Json, query: Mapping[str, list[str]]) -> None:
        known = {name: spec for name, spec in method.get("parameters", {}).items() if spec["location"] == "query"}
        known |= self._parameters
        for name, values in query.items():
            if name in _SYSTEM_PARAMETERS:
                continue
            if name not in known:
                raise _bad(
                    f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
                    f" Field '{name}' could not be found in request message."
                )
            if len(values) > 1 and not known[name].get("repeated"):
                raise _bad(f"Invalid value at '{name}': it is given {len(values)} times.")
            for value in values:
                _check_parameter(name, value, known[name])
        for name, spec in known.items():
            if spec.get("required") and name not in query:
                raise GcpError("required", f"Required parameter: {name}", 400, location=name)

    def _check_object(self, value: object, schema: Json, place: str) -> None:
        if "$ref" in schema:
            schema = self._schemas[schema["$ref"]]
        if not isinstance(value, dict):
            raise _wrong(place, "TYPE_MESSAGE", value)
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, item in value.items():
            spec = properties.get(name, others)
            if spec is None:
                where = f" at '{place}'" if place else ""
                raise _bad(f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.')
            self._check_value(item, spec, f"{place}.{name}" if place else name)

    def _check_value(self, value: object, spec: Json, place: str) -> None:
        if value is None:
            return
        kind = spec.get("type")
        if kind == "any":
            return
        if kind == "array":
            if not isinstance(value, list):
                raise _wrong(place, "TYPE_ARRAY", value)
            for index, item in enumerate(value):
                self._check_value(item, spec["items"], f"{place}[{index}]")
        elif "$ref" in spec or kind == "object":
            self._check_object(value, spec, place)
        else:
            _check_scalar(value, spec, place)


def _check_scalar(value: object, spec: Json, place: str) -> None:
    form = spec.get("format", "")
    if form in _INTEGERS:
        _check_integer(value, form, place)
    elif spec["type"] == "integer":
        _check_integer(value, "int32", place)
    elif spec["type"] == "number":
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise _wrong(place, "TYPE_DOUBLE", value)
    elif spec["type"] == "boolean":
        if not isinstance(value, bool):
            raise _wrong(place, "TYPE_BOOL", value)
    elif not isinstance(value, str):
        raise _wrong(place, "TYPE_STRING", value)
    else:
        _check_text(value, spec, form, place)


def _check_text(value: str, spec: Json, form: str, place: str) -> None:
    if "enum" in spec and value not in spec["enum"]:
        raise _wrong(place, "TYPE_ENUM", value)
    if form == "byte":
        try:
            base64.b64decode(value, altchars=b"-_" if "-" in value or "_" in value else None, validate=True)
        except binascii.Error:
            raise _wrong(place, "TYPE_BYTES", value) from None
    if form == "google-duration" and not _DURATION.fullmatch(value):
        raise _wrong(place, "type.googleapis.com/google.protobuf.Duration", value)
    if form == "google-datetime" and not _INSTANT.fullmatch(value):
        raise _wrong(place, "type.googleapis.com/google.protobuf.Timestamp", value)


def _check_integer(value: object, form: str, place: str) -> None:
    # In JSON a 64-bit integer is a string; Google also accepts numbers, and strings for smaller integers.
    least, most = _INTEGERS[form]
    is_text = isinstance(value, str) and re.fullmatch(r"-?\d+", value) is not None
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not (is_text or is_number) or not least <= int(str(value)) <= most:
        raise _wrong(place, f"TYPE_{form.upper()}", value)


def _check_parameter(name: str, value: str, spec: Json) -> None:
    if spec["type"] == "boolean" and value.lower() not in ("true", "false"):
        raise _wrong(name, "TYPE_BOOL", value)
    if spec["type"] == "integer":
        _check_integer(value, spec.get("format", "int32"), name)
    if "enum" in spec and name not in ("$.xgafv", "alt") and value not in spec["enum"]:
        raise _wrong(name, "TYPE_ENUM", value)
    if "pattern" in spec and not re.fullmatch(spec["pattern"], value):
        raise GcpError(
            "invalidParameter",
            f"Invalid value '{value}'. Values must match the following regular expression: '{spec['pattern']}'",
            400,
            location=name,
        )


def _wrong(place: str, kind: str, value: object) -> GcpError:
    return _bad(f"Invalid value at '{place}' ({kind}), {json.dumps(value)}")


def _bad(message: str) -> GcpError:
    details: Any = [{"@type": _BAD_REQUEST, "fieldViolations": [{"description": message}]}]
    return GcpError("badRequest", message, 400, details=details)
