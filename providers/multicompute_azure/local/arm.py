"""The formats of Azure Resource Manager: errors, responses, resource ids, tags and times."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

SUBSCRIPTION = "00000000-0000-0000-0000-00000000a2e0"
TENANT = "00000000-0000-0000-0000-0000000007e4"
Json = dict[str, Any]

# https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources
_TAG_COUNT, _TAG_NAME, _TAG_VALUE = 50, 512, 256
_TAG_FORBIDDEN = re.compile(r"[<>%&\\?/]")
_TAG_PREFIXES = ("microsoft", "azure", "windows")


class ArmError(Exception):
    """An error response of Azure Resource Manager."""

    def __init__(
        self,
        code: str,
        message: str,
        status: int = 400,
        *,
        target: str = "",
        details: Sequence[Json] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Store code and message, the HTTP status, the field that is wrong, nested errors, and headers."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.target = target
        self.details = tuple(details)
        self.headers = dict(headers or {})

    def body(self) -> Json:
        """Return the value of "error" in a response and in the status of an operation."""
        body: Json = {"code": self.code, "message": self.message}
        if self.target:
            body["target"] = self.target
        if self.details:
            body["details"] = list(self.details)
        return body


@dataclass(frozen=True, slots=True)
class ArmResponse:
    """A response: status, document and headers; without a document the body is empty."""

    status: int = 200
    document: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


def missing(parameter: str) -> ArmError:
    """Return the error for a required field that is missing."""
    return ArmError("InvalidParameter", f"Required parameter '{parameter}' is missing (null).", target=parameter)


def invalid(parameter: str, message: str) -> ArmError:
    """Return the error for a field with an invalid value."""
    return ArmError("InvalidParameter", message, target=parameter)


def not_found(type_: str, name: str, group: str) -> ArmError:
    """Return the error for a resource that does not exist."""
    return ArmError(
        "ResourceNotFound",
        f"The Resource '{type_}/{name}' under resource group '{group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
        404,
    )


def group_not_found(name: str) -> ArmError:
    """Return the error for a resource group that does not exist."""
    return ArmError("ResourceGroupNotFound", f"Resource group '{name}' could not be found.", 404)


def check_tags(tags: object) -> dict[str, str]:
    """Return the tags of a request; refuse tags that Azure would refuse."""
    found = {str(name): str(value) for name, value in (tags.items() if isinstance(tags, dict) else ())}
    if len(found) > _TAG_COUNT:
        raise ArmError(
            "TagCountExceedsLimit", f"The number of tags '{len(found)}' exceeds the maximum allowed '{_TAG_COUNT}'."
        )
    for name, value in found.items():
        if _TAG_FORBIDDEN.search(name) or not name:
            raise ArmError(
                "InvalidTagNameCharacters",
                rf"The tag names '{name}' have reserved characters '<,>,%,&,\,?,/' or control characters.",
            )
        if name.lower().startswith(_TAG_PREFIXES):
            raise ArmError("ReservedTagName", f"The tag name '{name}' begins with a reserved prefix.")
        if len(name) > _TAG_NAME or len(value) > _TAG_VALUE:
            raise ArmError(
                "InvalidTag", f"The tag '{name}' is longer than {_TAG_NAME} characters, or its value than {_TAG_VALUE}."
            )
    return found


def instant(moment: datetime) -> str:
    """Return a time as the API writes it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def dig(document: object, *names: str) -> Any:
    """Return the value at a path of names in a document, or None if the path does not exist."""
    for name in names:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def group_id(name: str) -> str:
    """Return the id of a resource group."""
    return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}"


def group_of(resource_id: str) -> str:
    """Return the name of the resource group in a resource id, "" for none."""
    found = re.match(r"/subscriptions/[^/]+/resourcegroups/([^/]+)", resource_id, re.IGNORECASE)
    return found[1] if found else ""
