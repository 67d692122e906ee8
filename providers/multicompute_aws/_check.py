"""The checks of `doctor`: the identity and the main permissions."""

from collections.abc import Callable
from typing import Any, Final

from botocore.exceptions import ClientError

from multicompute.errors import MulticomputeError
from multicompute.provider import TAG_ID, Check
from multicompute.provider_kit.seam import finding, optional_finding
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import code_of, translate_errors
from multicompute_aws._session import Clients
from multicompute_aws._subnets import NO_SUBNET_HINT, described_subnets
from multicompute_aws._tags import ec2_tags

# Any id will do: EC2 refuses a dry run for a missing permission before it looks the image up.
_SOME_IMAGE: Final = "ami-00000000000000000"
_SOME_TYPE: Final = "t3.micro"


# These answers come after the check of the permission.
_ALLOWED: Final = ("InvalidAMI", "MissingParam", "VPCIdNotSpecified", "MissingInput", "DefaultVpcDoesNotExist")


def check(clients: Clients) -> tuple[Check, ...]:
    """Return all findings, the most important first; without an identity the rest is not checked."""
    home = Place("aws", clients.settings.home_region)
    identity = finding("identity", lambda: _identity(clients, home))
    if not identity.ok:
        return (identity,)
    network, place, subnet = _network(clients, home)
    ec2, quotas = clients.ec2(place.region), clients.service_quotas(home.region)
    launch: dict[str, Any] = {"ImageId": _SOME_IMAGE, "InstanceType": _SOME_TYPE, "MinCount": 1, "MaxCount": 1}
    kinds = ("instance", "volume", "network-interface")
    group: dict[str, Any] = {"GroupName": "multicompute-check", "Description": "check"}
    if subnet is not None:
        launch["SubnetId"], group["VpcId"] = subnet["SubnetId"], subnet["VpcId"]
    return (
        identity,
        _regions(clients),
        network,
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
                "ListServiceQuotas", home, lambda: quotas.list_service_quotas(ServiceCode="ec2", MaxResults=1)
            ),
            otherwise="not readable, so quotas are not compared",
        ),
    )


def _regions(clients: Clients) -> Check:
    """Return how many regions are enabled; the list is needed only where the settings name no regions."""

    def count() -> str:
        enabled, known = clients.enabled()
        only = f"; only {', '.join(clients.settings.listed_regions)} are used" if clients.settings.regions else ""
        return f"{enabled} of {known} regions are enabled in this account{only}"

    if clients.settings.regions:
        return optional_finding("regions", count, otherwise="not readable, so a disabled region is found by trying")
    return finding("regions", count)


def _network(clients: Clients, home: Place) -> tuple[Check, Place, dict[str, Any] | None]:
    """Return whether there are subnets to launch into, with the place and the first of them.

    Configured subnets may be in any region, the default ones are looked for in the home region.
    """
    settings = clients.settings
    is_configured = bool(settings.vpc or settings.subnets)
    try:
        listed = clients.in_regions(
            None if is_configured else home.region,
            lambda _, place: [(place, subnet) for subnet in described_subnets(clients, place)],
            is_listing=True,
        )
    except MulticomputeError as error:
        return Check("subnets", ok=False, detail=error.message, hint=error.hint or ""), home, None
    found = [item for each in listed for item in each]
    if found:
        place, subnet = found[0]
        number = sum(other == place for other, _ in found)
        text = f"{number} {'subnets' if number > 1 else 'subnet'} of {subnet['VpcId']} in {place.region}"
        return Check("subnets", ok=True, detail=text), place, subnet
    if is_configured:
        text, hint = "no region has the configured VPC or subnets", "correct [providers.aws] vpc or subnets"
    else:
        text, hint = f"{home.region} has no default subnets", NO_SUBNET_HINT
    return Check("subnets", ok=False, detail=text, hint=hint), home, None


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
            if code_of(error) != "DryRunOperation" and not code_of(error).startswith(_ALLOWED):
                raise

    return finding(operation, lambda: _call(operation, place, tried) + " (dry run)")
