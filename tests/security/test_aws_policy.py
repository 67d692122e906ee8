"""The policy in the documentation is sufficient, and without any one of its actions something fails."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from multicompute import errors
from multicompute.node import Metric
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.price_feed import PricedType, PriceQuery
from multicompute.provider import TAG_ID, LaunchRequest, Selector, Settings
from multicompute.testing.provider_harness import launch_request
from multicompute_aws._feed import AwsPriceFeed
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud, advisor
from tests.aws_client import aws_client
from tests.security.iam_gate import Gate, actions, without

POLICY = json.loads((Path(__file__).parents[2] / "docs/permissions/aws-policy.json").read_text())
PRICES_POLICY = json.loads((Path(__file__).parents[2] / "docs/permissions/aws-prices-policy.json").read_text())
P5 = InstanceType("aws", "p5.48xlarge", "h100", 8, 80.0, vcpus=192, memory_gib=2048, fabric="efa", network_cards=32)
OFFER = Offer(P5, "us-east-1", "us-east-1a", "on_demand", Quote(55.04, date(2026, 7, 20), "test"))
SPOT = replace(OFFER, purchase="spot")
HERE = Selector(region="us-east-1", cluster_id="id-first")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me"
# Why an action is in the policy although no call has its name, or none in these tests.
NOT_CALLED_HERE = {
    "iam:CreateServiceLinkedRole": "EC2 makes it in the caller's name at the first spot request of an account; moto does not",
    "ec2:CancelSpotInstanceRequests": "for a request that outlives its instance, which never happens on the local cloud; "
    "tests/providers/aws/test_terminate.py tests the call",
}
# sts:GetCallerIdentity can't be denied: AWS answers it whatever the policies say, and moto does the same. It is in the policy so that
# it lists all that is called. https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
CANT_BE_DENIED = {"sts:GetCallerIdentity"}


class Site:
    """A local cloud behind the gate, and providers that call it through the gate."""

    def __init__(self, cloud: AwsLocalCloud, gate: Gate) -> None:
        self.cloud, self.gate = cloud, gate
        self.held = cloud.add_reservation("p5.48xlarge", "us-east-1a", 8)
        self._number = 0

    def provider(self, **values: object) -> AwsProvider:
        return AwsProvider(Settings({"regions": ["us-east-1"], **values}, self.gate.environment))

    def request(self, offer: Offer = OFFER, **changes: Any) -> LaunchRequest:
        self._number += 1
        return replace(launch_request(offer, token=f"t-{self._number}"), **changes)

    def boto(self) -> Any:
        return aws_client("ec2", self.cloud.endpoint_url, key="root")

    def tear_down(self, provider: AwsProvider) -> str:
        for _ in range(20):
            step = provider.terminate(HERE)
            if step.is_done:
                return "done"
        return step.blocked_by or step.waiting_for

    def clean(self) -> None:
        """Tear down what a refused call has left, with all permissions."""
        root = AwsProvider(Settings({"regions": ["us-east-1"]}, self.cloud.environment))
        assert self.tear_down(root) == "done" and self.cloud.alive() == []


# --- what users do; each returns its result ----------------------------------------------------------------------------


def doctor(site: Site) -> object:
    return [(check.name, check.ok, "not" in check.detail) for check in site.provider().check()]


def gang(site: Site) -> object:
    provider = site.provider()
    nodes = provider.launch(site.request(fabric=True, ssh_public_key=KEY, setup="true"))
    provider.set_expiry(HERE, datetime(2027, 1, 1, tzinfo=UTC))
    addresses = [bool(node.public_ip) for node in provider.nodes(HERE)]
    kinds = sorted(item.kind for item in provider.resources(HERE))
    return len(nodes), addresses, kinds, site.tear_down(provider)


def isolated(site: Site) -> object:
    """Launch into a subnet from which no route leads to the internet."""
    ec2 = site.boto()
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.0.0/24", AvailabilityZone="us-east-1a")
    provider = site.provider(vpc=vpc)
    try:
        return len(provider.launch(site.request()))
    except errors.InvalidRequestError as error:
        return error.code
    finally:
        site.tear_down(provider)


def short_of_addresses(site: Site) -> object:
    """Launch a gang that needs more elastic IP addresses than the account may have."""
    site.cloud.set_quota("L-0263D0A3", "us-east-1", 1)
    provider = site.provider()
    try:
        return len(provider.launch(site.request(fabric=True)))
    except errors.InvalidRequestError as error:
        return error.code, "ec2:RunInstances" in site.gate.calls
    finally:
        site.cloud.set_quota("L-0263D0A3", "us-east-1", 10_000)
        site.tear_down(provider)


def spot(site: Site) -> object:
    provider = site.provider()
    return len(provider.launch(site.request(SPOT, max_price=60.0))), site.tear_down(provider)


def reserved(site: Site) -> object:
    provider = site.provider()
    quotas = provider.quotas("us-east-1", reservations=[site.held])
    nodes = provider.launch(site.request(parts=(Part(OFFER, 2, reservation=site.held),)))
    return len(quotas.quotas), len(quotas.reservations), len(quotas.notes), len(nodes), site.tear_down(provider)


def everywhere(site: Site) -> object:
    return len(site.provider(regions=[]).nodes(Selector(owner="unknown")))


def available(site: Site) -> object:
    found = site.provider().availability("us-east-1")
    return found.refused, found.zones, found.offered, len(found.notes)


def prices(site: Site) -> object:
    return sorted(offer.purchase for offer in site.provider().quotes([OFFER, SPOT]))


def refreshed(site: Site) -> object:
    """Fetch the prices of one type; the Spot Advisor's data are public, so they are read without the gate."""
    settings = Settings({"spot_advisor_url": site.cloud.endpoint_url + advisor.PATH}, site.gate.environment)
    query = PriceQuery([PricedType(P5)], ["us-east-1"], ("none",))
    found = AwsPriceFeed(settings).fetch(query, progress=lambda _: None)
    return sorted((price.purchase, price.zones) for price in found.prices), found.answered, len(found.notes)


def own_image(site: Site) -> object:
    image = site.boto().describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    provider = site.provider()
    return len(provider.launch(site.request(image=image))), site.tear_down(provider)


def watched(site: Site) -> object:
    provider = site.provider()
    launched = provider.launch(site.request())
    now = datetime.now(UTC)
    site.cloud.measure(launched[0].id, {Metric.CPU: 40.0, Metric.ACCELERATOR: 90.0})
    samples = provider.metrics(launched, since=now - timedelta(minutes=10), until=now + timedelta(minutes=5))
    site.cloud.impair(launched[1].id)
    states = sorted(node.state for node in provider.nodes(replace(HERE, with_health=True)))
    return sorted({sample.metric for sample in samples}), states, site.tear_down(provider)


def leftovers(site: Site) -> object:
    """Tear down a cluster of which only a volume and an interface are left."""
    ec2, tags = site.boto(), [{"Key": key, "Value": value} for key, value in site.request().tags.items()]
    ec2.create_volume(
        AvailabilityZone="us-east-1a", Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
    )
    ec2.create_network_interface(
        SubnetId=ec2.describe_subnets()["Subnets"][0]["SubnetId"],
        TagSpecifications=[{"ResourceType": "network-interface", "Tags": tags}],
    )
    return site.tear_down(site.provider())


def extended_by_group(site: Site) -> object:
    """Extend nodes whose tags are not in their metadata."""
    provider, request = site.provider(), site.request()
    provider.launch(replace(request, tags={**request.tags, "Cost Center": "1"}))
    for year in (2027, 2028):
        provider.set_expiry(HERE, datetime(year, 1, 1, tzinfo=UTC))
    return [item.kind for item in provider.resources(HERE)].count("security-group"), site.tear_down(provider)


def restarted(site: Site) -> object:
    """Start nodes again that were stopped."""
    provider, request = site.provider(), site.request()
    for node in provider.launch(request):
        site.cloud.stop_node(node.id)
    states = sorted(node.state for node in provider.launch(replace(request, restart=True)))
    return states, site.tear_down(provider)


def reached(site: Site) -> object:
    """Read the host keys of nodes, and open the port of nodes whose launch has opened none."""
    provider, request = site.provider(), site.request(ssh_public_key=KEY, opens_later=True)
    nodes = provider.launch(request)
    provider.open_ssh("us-east-1", {TAG_ID: request.cluster_id})
    return len(provider.host_keys(nodes)), site.tear_down(provider)


ACTIONS: Mapping[str, Callable[[Site], object]] = {
    action.__name__: action
    for action in (
        doctor,
        gang,
        isolated,
        short_of_addresses,
        spot,
        reserved,
        everywhere,
        available,
        prices,
        own_image,
        watched,
        leftovers,
        restarted,
        extended_by_group,
        reached,
    )
}


@pytest.fixture(name="site", scope="module")
def _site() -> Iterator[Site]:
    cloud = AwsLocalCloud()
    cloud.start()
    gate = Gate(cloud)
    gate.start()
    yield Site(cloud, gate)
    gate.stop()
    cloud.stop()


@pytest.fixture(name="done", scope="module")
def _done(site: Site) -> Mapping[str, tuple[object, set[str]]]:
    """Return the result of each action with the policy, and the calls that it makes."""
    found = {}
    for name, action in ACTIONS.items():
        site.gate.allow(POLICY)
        found[name] = action(site), set(site.gate.calls)
        assert site.gate.refused == [], name
        assert site.cloud.alive() == []
    return found


def test_the_policy_is_sufficient_and_has_no_action_that_is_not_called(
    site: Site, done: Mapping[str, tuple[object, set[str]]]
) -> None:
    called = {action for _, calls in done.values() for action in calls}
    allowed = actions(POLICY)
    assert called - allowed == set(), "called, and not in docs/permissions/aws-policy.json"
    assert allowed - called == set(NOT_CALLED_HERE), "in docs/permissions/aws-policy.json, and never called"


@pytest.mark.parametrize("action", sorted(actions(POLICY) - set(NOT_CALLED_HERE) - CANT_BE_DENIED))
def test_without_any_one_action_a_call_fails_with_an_error_that_names_the_action(
    site: Site, done: Mapping[str, tuple[object, set[str]]], action: str
) -> None:
    name = next(name for name, (_, calls) in done.items() if action in calls)
    site.gate.allow(without(POLICY, action))
    try:
        result = ACTIONS[name](site)
    except errors.AccessDeniedError as error:
        assert action.partition(":")[2] in error.message or error.code in ("UnauthorizedOperation", "AccessDenied")
    except errors.InvalidRequestError as error:
        # Without elastic IP addresses, only the gangs that need them are refused.
        denied = "ec2:AllocateAddress" if action == "ec2:CreateTags" else action
        assert f"a policy denies {denied}" in error.message
    else:
        assert result != done[name][0]
    assert action in site.gate.refused or action == "ec2:CreateTags"
    site.clean()


def test_the_policy_for_prices_is_sufficient_and_has_no_action_that_is_not_called(site: Site) -> None:
    site.gate.allow(PRICES_POLICY)
    refreshed(site)
    assert (set(site.gate.calls), site.gate.refused) == (actions(PRICES_POLICY), [])


@pytest.mark.parametrize("action", sorted(actions(PRICES_POLICY)))
def test_without_any_one_action_fewer_prices_are_read(site: Site, action: str) -> None:
    site.gate.allow(PRICES_POLICY)
    everything = refreshed(site)
    site.gate.allow(without(PRICES_POLICY, action))
    try:
        assert refreshed(site) != everything
    except errors.AccessDeniedError as error:
        assert action.partition(":")[2] in error.message
    assert action in site.gate.refused


def test_the_policy_allows_neither_to_delete_nor_to_tag_foreign_resources(site: Site) -> None:
    site.gate.allow(POLICY)
    ec2 = site.boto()
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    provider = site.provider()
    mine: Any = provider._clients.ec2("us-east-1")
    calls: tuple[Callable[[], object], ...] = (
        lambda: mine.delete_volume(VolumeId=volume),
        lambda: mine.create_tags(Resources=[volume], Tags=[{"Key": "multicompute-id", "Value": "id-first"}]),
        lambda: mine.run_instances(ImageId="ami-1", InstanceType="t3.micro", MinCount=1, MaxCount=1, DryRun=True),
    )
    for call in calls:
        with pytest.raises(Exception, match="UnauthorizedOperation"):
            call()
    ec2.delete_volume(VolumeId=volume)
    assert site.cloud.alive() == []
