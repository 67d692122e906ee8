"""Removes from EC2's answers about instances what no caller reads, before the SDK parses them.

An instance with 32 network interfaces is some 50 kB of XML, of which a node's record needs the first kilobyte; the SDK would spend
4.6 ms on each (measured with botocore 1.44 on p5.48xlarge). The SDK's own event `before-parse` is used.
"""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from botocore.model import OperationModel
    from mypy_boto3_ec2 import EC2Client

# Lists and structures of an instance that no caller reads; the outer ones first, because some of the others occur inside them.
_UNREAD_OF_AN_INSTANCE: Final = (
    b"networkInterfaceSet",
    b"blockDeviceMapping",
    b"groupSet",
    b"capacityReservationSpecification",
    b"privateDnsNameOptions",
    b"productCodes",
    b"maintenanceOptions",
    b"networkPerformanceOptions",
    b"enclaveOptions",
    b"hibernationOptions",
    b"iamInstanceProfile",
    b"monitoring",
)

_UNREAD: Final = {
    "DescribeInstances": _UNREAD_OF_AN_INSTANCE,
    "RunInstances": _UNREAD_OF_AN_INSTANCE,
    # A listing reads the states afterwards.
    "TerminateInstances": (b"instancesSet",),
}


def trim_answers(client: "EC2Client") -> None:
    """Make `client` cut its answers about instances."""
    for operation in _UNREAD:
        client.meta.events.register(f"before-parse.ec2.{operation}", _trim)


def _trim(response_dict: dict[str, Any], operation_model: "OperationModel", **_: object) -> None:
    if response_dict["status_code"] < 300:
        body: bytes = response_dict["body"]
        for tag in _UNREAD[operation_model.name]:
            body = without(body, tag)
        response_dict["body"] = body


def without(body: bytes, tag: bytes) -> bytes:
    """Return `body` without any element named `tag`, which must not contain another of its name.

    In text "<" is always escaped, so what looks like a tag is one. An element that is not closed is left for the parser to refuse.
    """
    opening, closing = b"<" + tag + b">", b"</" + tag + b">"
    start = body.find(opening)
    if start < 0:
        return body
    kept, end = [], 0
    while start >= 0:
        kept.append(body[end:start])
        stop = body.find(closing, start)
        if stop < 0:
            return b"".join(kept) + body[start:]
        end = stop + len(closing)
        start = body.find(opening, end)
    return b"".join(kept) + body[end:]
