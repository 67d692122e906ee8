"""The checks of `doctor`: the identity and the main permissions."""

from collections.abc import Callable
from typing import Any, Final

from botocore.exceptions import ClientError

from multicompute.provider import TAG_ID, Check
from multicompute.provider_kit.seam import finding, optional_finding
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import code_of, translate_errors
from multicompute_aws._session import Clients
from multicompute_aws._tags import ec2_tags

# Any id will do: EC2 refuses a dry run for a missing permission before it looks the image up.
_SOME_IMAGE: Final = "ami-00000000000000000"
_SOME_TYPE: Final = "t3.micro"


def check(clients: Clients) -> tuple[Check, ...]:
    """Return all findings, the most important first; without an identity the rest is not checked."""
    place = Place("aws", clients.settings.home_region)
    identity = finding("identity", lambda: _identity(clients, place))
    if not identity.ok:
        return (identity,)
    ec2, quotas = clients.ec2(place.region), clients.service_quotas(place.region)
    launch: dict[str, Any] = {"ImageId": _SOME_IMAGE, "InstanceType": _SOME_TYPE, "MinCount": 1, "MaxCount": 1}
    kinds = ("instance", "volume", "network-interface")
    group: dict[str, Any] = {"GroupName": "multicompute-check", "Description": "check"}
    return (
        identity,
        _allowed("DescribeInstances", place, lambda: ec2.describe_instances(MaxResults=5)),
        _dry_run(
            "RunInstances", place, lambda: ec2.run_instances(**launch, TagSpecifications=_tagged(*kinds), DryRun=True)
        ),
        _dry_run(
            "CreateSecurityGroup",
            place,
            lambda: ec2.create_security_group(**group, TagSpecifications=_tagged("security-group"), DryRun=True),
        ),
        # Quotas are not needed: without the permission to read them, a launch beyond one is refused by EC2.
        optional_finding(
            "ListServiceQuotas",
            lambda: _call(
                "ListServiceQuotas", place, lambda: quotas.list_service_quotas(ServiceCode="ec2", MaxResults=1)
            ),
            otherwise="not readable, so quotas are not compared",
        ),
    )


def _tagged(*kinds: str) -> Any:
    """Return tags as a launch sets them: the policy in docs/permissions allows to create only what has ours."""
    return [{"ResourceType": kind, "Tags": ec2_tags({TAG_ID: "check"})} for kind in kinds]


def _identity(clients: Clients, place: Place) -> str:
    with translate_errors("GetCallerIdentity", place):
        answer = clients.sts(place.region).get_caller_identity()
    return f"account {answer['Account']}, {answer['Arn']}"


def _call(operation: str, place: Place, call: Callable[[], object]) -> str:
    with translate_errors(operation, place):
        call()
    return f"allowed in {place.region}"


def _allowed(operation: str, place: Place, call: Callable[[], object]) -> Check:
    return finding(operation, lambda: _call(operation, place, call))


def _dry_run(operation: str, place: Place, call: Callable[[], object]) -> Check:
    """Return what a dry run finds. It always answers with an error, but only a missing permission, or no answer, is a failed check."""

    def tried() -> None:
        try:
            call()
        except ClientError as error:
            if code_of(error) != "DryRunOperation" and not code_of(error).startswith(("InvalidAMI", "MissingParam")):
                raise

    return finding(operation, lambda: _call(operation, place, tried) + " (dry run)")
