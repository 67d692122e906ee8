"""EC2's wire format, by botocore's model: reads and checks requests, writes responses and errors."""

import functools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
REQUEST_ID = "00000000-0000-4000-8000-000000000000"
# Not checked against their enumerations: the handlers check them against the offer, with EC2's own messages.
_FREE_SHAPES = frozenset({"InstanceType", "ResourceType"})
_FRAME = frozenset({"Action", "Version"})


class AwsError(Exception):
    """An error response: the vendor's code, message and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        """Store code, message and HTTP status."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


@functools.cache
def ec2_model() -> "ServiceModel":
    """Return EC2's service model, which is part of botocore."""
    from botocore.model import ServiceModel

    from multicompute_aws._descriptions import descriptions

    return ServiceModel(descriptions().load_service_model("ec2", "service-2"), "ec2")


@functools.cache
def operation(action: str) -> "OperationModel":
    """Return the model of an action.

    Raises:
        AwsError: EC2 has no such action.
    """
    from botocore.model import OperationNotFoundError

    try:
        return ec2_model().operation_model(action)
    except OperationNotFoundError as error:
        raise AwsError("InvalidAction", f"The action {action} is not valid for this web service.") from error


def parse_request(action: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of a form as boto3 takes them: {"InstanceIds": [...], "Filters": [{"Name": ..., "Values": [...]}]}.

    Raises:
        AwsError: The model lacks the action, a parameter or the type of a value, or a required parameter is missing.
    """
    shape = operation(action).input_shape
    tree: dict[str, Any] = {}
    for name, value in form.items():
        if name not in _FRAME:
            _plant(tree, name, value)
    return dict(_structure(shape, tree, "")) if shape is not None else {}


def _plant(tree: dict[str, Any], name: str, value: str) -> None:
    *path, last = name.split(".")
    for step in path:
        branch = tree.setdefault(step, {})
        if not isinstance(branch, dict):
            raise AwsError("InvalidParameterValue", f"The parameter {name} can't be combined with {step}")
        tree = branch
    tree[last] = value


@functools.cache
def _members(shape: "StructureShape") -> dict[str, tuple[str, "Shape"]]:
    """Return name on the wire -> (member, shape). EC2's serializer uses queryName, or else the capitalized locationName."""
    members = {}
    for member, inner in shape.members.items():
        name = inner.serialization.get("queryName")
        if name is None:
            location = inner.serialization.get("name", member)
            name = location[0].upper() + location[1:]
        members[name] = (member, inner)
    return members


def _structure(shape: Any, tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    members = _members(shape)
    found = {}
    for name, value in tree.items():
        if name not in members:
            raise AwsError("UnknownParameter", f"The parameter {prefix}{name} is not recognized")
        member, inner = members[name]
        found[member] = _value(inner, value, prefix + name)
    for member in shape.required_members:
        if member not in found:
            raise AwsError("MissingParameter", f"The request must contain the parameter {prefix}{member}")
    return found


def _value(shape: "Shape", value: Any, name: str) -> Any:
    if shape.type_name == "structure":
        return _structure(shape, value if isinstance(value, dict) else {}, name + ".")
    if shape.type_name == "list":
        return _list(shape, value, name)
    if not isinstance(value, str):
        raise AwsError("InvalidParameterValue", f"The parameter {name} takes one value")
    return _scalar(shape, value, name)


def _list(shape: Any, value: Any, name: str) -> list[Any]:
    if not isinstance(value, dict) or not all(key.isdecimal() for key in value):
        raise AwsError("InvalidParameterValue", f"The parameter {name} is a list and needs numbers: {name}.1")
    most = shape.metadata.get("max")
    if most is not None and len(value) > most:
        raise AwsError(
            "InvalidParameterValue", f"The parameter {name} has {len(value)} items; at most {most} are allowed"
        )
    return [_value(shape.member, value[key], f"{name}.{key}") for key in sorted(value, key=int)]


def _scalar(shape: "Shape", value: str, name: str) -> Any:
    if shape.type_name in ("integer", "long"):
        return _integer(shape, value, name)
    if shape.type_name == "boolean":
        if value.lower() not in ("true", "false"):
            raise AwsError("InvalidParameterValue", f"Invalid value '{value}' for {name}. Must be true or false")
        return value.lower() == "true"
    if shape.type_name in ("float", "double"):
        return float(value)
    allowed = getattr(shape, "enum", None)
    if allowed and value not in allowed and shape.name not in _FREE_SHAPES:
        raise AwsError("InvalidParameterValue", f"Invalid value '{value}' for {name}.")
    return value


def _integer(shape: "Shape", value: str, name: str) -> int:
    try:
        number = int(value)
    except ValueError as error:
        raise AwsError("InvalidParameterValue", f"Invalid value '{value}' for {name}. Must be an integer") from error
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and number < least:
        raise AwsError(
            "InvalidParameterValue",
            f"Value ( {number} ) for parameter {name} is invalid. Expecting a value greater than {least}.",
        )
    if most is not None and number > most:
        raise AwsError(
            "InvalidParameterValue", f"Value ( {number} ) for parameter {name} is invalid. Expecting at most {most}."
        )
    return number


def form_of(action: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the form of a request, the reverse of `parse_request`."""
    from botocore.serialize import EC2Serializer

    # By botocore's own serializer, so that moto gets exactly what a client would send.
    request: Mapping[str, Any] = EC2Serializer().serialize_to_request(dict(params), operation(action))
    body: dict[str, str] = request["body"]
    return {name: str(value) for name, value in body.items()}


def text(value: object) -> str:
    """Return a scalar as EC2 writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return escape(str(value))


def write_members(shape: Any, values: Mapping[str, Any]) -> str:
    """Return the XML of a structure's members, without the enclosing element; members that are None are omitted."""
    parts = []
    for member, value in values.items():
        if value is None:
            continue
        inner = shape.members[member]
        name = inner.serialization.get("name", member)
        parts.append(f"<{name}>{_write(inner, value)}</{name}>")
    return "".join(parts)


def _write(shape: Any, value: Any) -> str:
    if shape.type_name == "structure":
        return write_members(shape, value)
    if shape.type_name == "list":
        return write_items(shape, value)
    return text(value)


def write_items(shape: "ListShape | Any", values: Iterable[Any]) -> str:
    """Return the XML of a list's elements."""
    name = shape.member.serialization.get("name", "item")
    return "".join(f"<{name}>{_write(shape.member, value)}</{name}>" for value in values)


def shape(name: str) -> Any:
    """Return a shape of EC2's model by its name."""
    return ec2_model().shape_for(name)


def envelope(action: str, content: str) -> bytes:
    """Return a response body around the XML of its members."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{action}Response xmlns="{NAMESPACE}">'
        f"<requestId>{REQUEST_ID}</requestId>{content}</{action}Response>"
    ).encode()


def response_body(action: str, values: Mapping[str, Any]) -> bytes:
    """Return a response body, by the model of the action's output."""
    output = operation(action).output_shape
    if output is None:
        return envelope(action, "<return>true</return>")
    return envelope(action, write_members(output, values))


def error_body(error: AwsError) -> bytes:
    """Return an error as EC2 writes it."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
        f"</Error></Errors><RequestID>{REQUEST_ID}</RequestID></Response>"
    ).encode()
