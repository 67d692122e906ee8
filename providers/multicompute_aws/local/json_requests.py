"""Checks of JSON requests against the service models of botocore: members, types, enumerations and ranges."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from multicompute_aws.local.wire import AwsError

if TYPE_CHECKING:
    from botocore.model import ServiceModel

# The name in a signature -> botocore's name of the service, and its code for a request that does not fit the model.
_SERVICES: Mapping[str, tuple[str, str]] = {
    "ssm": ("ssm", "ValidationException"),
    "servicequotas": ("service-quotas", "IllegalArgumentException"),
    "pricing": ("pricing", "InvalidParameterException"),
}


@functools.cache
def _model(service: str) -> "ServiceModel":
    from botocore.model import ServiceModel

    from multicompute_aws._descriptions import descriptions

    return ServiceModel(descriptions().load_service_model(service, "service-2"), service)


def check_parameters(service: str, action: str, params: Mapping[str, Any]) -> None:
    """Refuse a request that does not fit the model of its service.

    Raises:
        AwsError: The model lacks a member or a value of an enumeration, or a member is missing, of another type or out of range.
    """
    if service not in _SERVICES:
        return
    from botocore.validate import ParamValidator

    name, code = _SERVICES[service]
    shape = _model(name).operation_model(action).input_shape
    if shape is None:
        return
    report = ParamValidator().validate(params, shape)
    problem = report.generate_report() if report.has_errors() else _wrong_value(shape, params)
    if problem:
        raise AwsError(code, problem)


def _wrong_value(shape: Any, value: Any) -> str:
    """Return what is wrong with the first value that its enumeration lacks, "" if there is none."""
    if shape.type_name == "structure":
        return next((found for name, item in value.items() if (found := _wrong_value(shape.members[name], item))), "")
    if shape.type_name == "list":
        return next((found for item in value if (found := _wrong_value(shape.member, item))), "")
    allowed = getattr(shape, "enum", None)
    return f"{value!r} is not one of {', '.join(allowed)}" if allowed and value not in allowed else ""
