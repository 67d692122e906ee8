"""What `doctor` asks AWS: who we are, and whether the main rights are there."""

from typing import Any, Final

from botocore.exceptions import ClientError

from multicompute.errors import MulticomputeError
from multicompute.provider import TAG_ID, Check
from multicompute_aws._errors import Place, code_of, translate_errors
from multicompute_aws._session import Clients
from multicompute_aws._tags import ec2_tags

# Any id will do: a dry run is refused for want of a right before it looks at the image.
_SOME_IMAGE: Final = "ami-00000000000000000"
_SOME_TYPE: Final = "t3.micro"


def checks(clients: Clients) -> tuple[Check, ...]:
    """All findings, in the order in which they matter; without an identity the rest is not asked."""
    place = Place(clients.settings.home_region)
    identity = _identity(clients, place)
    if not identity.ok:
        return (identity,)
    ec2 = clients.ec2(place.region)
    describe = _finding("DescribeInstances", place, lambda: ec2.describe_instances(MaxResults=5))
    return (
        identity,
        describe,
        _dry_run(
            "RunInstances",
            place,
            lambda: ec2.run_instances(
                ImageId=_SOME_IMAGE,
                InstanceType=_SOME_TYPE,
                MinCount=1,
                MaxCount=1,
                TagSpecifications=_tagged("instance", "volume", "network-interface"),
                DryRun=True,
            ),
        ),
        _dry_run(
            "CreateSecurityGroup",
            place,
            lambda: ec2.create_security_group(
                GroupName="multicompute-check",
                Description="check",
                TagSpecifications=_tagged("security-group"),
                DryRun=True,
            ),
        ),
        _quota_check(clients, place),
    )


def _tagged(*kinds: str) -> Any:
    """Tags as a launch gives them: the policy in docs/permissions lets nothing be made that does not carry ours."""
    return [{"ResourceType": kind, "Tags": ec2_tags({TAG_ID: "check"})} for kind in kinds]


def _identity(clients: Clients, place: Place) -> Check:
    try:
        with translate_errors("GetCallerIdentity", place):
            answer = clients.sts(place.region).get_caller_identity()
    except MulticomputeError as error:
        return Check("identity", ok=False, detail=error.message, hint=error.hint or "")
    return Check("identity", ok=True, detail=f"account {answer['Account']}, {answer['Arn']}")


def _finding(operation: str, place: Place, call: Any) -> Check:
    try:
        with translate_errors(operation, place):
            call()
    except MulticomputeError as error:
        return Check(operation, ok=False, detail=error.message, hint=error.hint or "")
    return Check(operation, ok=True, detail=f"allowed in {place.region}")


def _dry_run(operation: str, place: Place, call: Any) -> Check:
    """A dry run answers with an error in any case; only a lacking right, or no answer at all, is a bad one."""
    try:
        with translate_errors(operation, place):
            try:
                call()
            except ClientError as error:
                if code_of(error) == "DryRunOperation" or code_of(error).startswith(("InvalidAMI", "MissingParam")):
                    return Check(operation, ok=True, detail=f"allowed in {place.region} (dry run)")
                raise
    except MulticomputeError as error:
        return Check(operation, ok=False, detail=error.message, hint=error.hint or "")
    return Check(operation, ok=True, detail=f"allowed in {place.region} (dry run)")


def _quota_check(clients: Clients, place: Place) -> Check:
    """Quotas are not needed: without the right to read them a launch finds out by being refused."""
    client = clients.service_quotas(place.region)
    found = _finding("ListServiceQuotas", place, lambda: client.list_service_quotas(ServiceCode="ec2", MaxResults=1))
    if found.ok:
        return found
    return Check("ListServiceQuotas", ok=True, detail=f"not readable, so quotas are not compared: {found.detail}")
