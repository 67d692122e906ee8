"""How Azure Resource Manager speaks: errors, answers, resource ids, tags and times."""

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
    """A refusal, as Azure Resource Manager words it."""

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
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.target = target
        self.details = tuple(details)
        self.headers = dict(headers or {})

    def body(self) -> Json:
        """What stands under "error" in an answer and in the status of an operation."""
        body: Json = {"code": self.code, "message": self.message}
        if self.target:
            body["target"] = self.target
        if self.details:
            body["details"] = list(self.details)
        return body


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a document and headers; without a document the body is empty."""

    status: int = 200
    document: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


def missing(parameter: str) -> ArmError:
    """A required field is not there."""
    return ArmError("InvalidParameter", f"Required parameter '{parameter}' is missing (null).", target=parameter)


def invalid(parameter: str, message: str) -> ArmError:
    """A field has a value that can't be."""
    return ArmError("InvalidParameter", message, target=parameter)


def not_found(type_: str, name: str, group: str) -> ArmError:
    """There is no such resource."""
    return ArmError(
        "ResourceNotFound",
        f"The Resource '{type_}/{name}' under resource group '{group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
        404,
    )


def group_not_found(name: str) -> ArmError:
    """There is no such resource group."""
    return ArmError("ResourceGroupNotFound", f"Resource group '{name}' could not be found.", 404)


def check_tags(tags: object) -> dict[str, str]:
    """The tags of a request, refused where Azure would refuse them."""
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
    """A time as the API writes it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def dig(document: object, *names: str) -> Any:
    """The value at a path of names in a document, None where it ends before."""
    for name in names:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def group_id(name: str) -> str:
    """The id of a resource group."""
    return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}"


def group_of(resource_id: str) -> str:
    """The name of the resource group in a resource id, "" where there is none."""
    found = re.match(r"/subscriptions/[^/]+/resourcegroups/([^/]+)", resource_id, re.IGNORECASE)
    return found[1] if found else ""
