"""The local AWS: one endpoint on 127.0.0.1 for all services, and what a test can do with it."""

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Literal

from multicompute.clock import Clock, SystemClock
from multicompute.offer import Purchase
from multicompute.provider import Resource
from multicompute.testing.faults import Faults
from multicompute.testing.local.admin import PREFIX, Admin
from multicompute.testing.local.chassis import Chassis
from multicompute.testing.local.fault_injection import FaultInjector
from multicompute.testing.local.foreign import ForeignResources
from multicompute.testing.local.forwarded import Duration
from multicompute.testing.local.machines import keys_in
from multicompute.testing.local.measurements import Load, by_metric
from multicompute.testing.local.server import Request, Response
from multicompute.testing.local.shells import PREFIX as SHELLS
from multicompute.testing.local.shells import Shells
from multicompute_aws.local.account import Account, Store
from multicompute_aws.local.addresses import ADDRESS_QUOTA
from multicompute_aws.local.admission import QUOTAS
from multicompute_aws.local.advisor import RANGES
from multicompute_aws.local.app import AwsApp
from multicompute_aws.local.foreign import ForeignSeeder
from multicompute_aws.local.hardware import instance_types
from multicompute_aws.local.keys import KeyFault, Keys, key_of
from multicompute_aws.local.monitoring import put_measurements
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.moto_completion import completed_moto
from multicompute_aws.local.reachability import has_way_out, is_reachable
from multicompute_aws.local.rendering import STATUS_CHECKS
from multicompute_aws.local.state import (
    SPOT_TERMINATED,
    USER_TERMINATED,
    CapacityReservation,
    Instance,
    Region,
    RegionStatus,
    State,
)

_REGION = "us-east-1"
_KEY_ID, _SECRET = "AKIALOCALCLOUD000000", "local"
# A variable of the user for one of these services would take precedence over AWS_ENDPOINT_URL.
_SERVICES = ("EC2", "SSM", "STS", "IAM", "SERVICE_QUOTAS", "PRICING", "CLOUDWATCH", "CLOUDWATCH_LOGS", "S3")


class AwsLocalCloud:
    """AWS on 127.0.0.1: moto, and in front of it what EC2 has and moto lacks.

    Each instance of this class is an account of its own. See `multicompute.testing.LocalCloud` for the members that every local
    cloud has.

    Attributes:
        faults: The faults that wait for calls, and a record of all calls, by the API's action names ("RunInstances").
        store: Where instances are stored: "own" for a store that is fast with ten thousand of them, "moto" for moto's. `start`
            reads it.
        lag: How long the API does not find a new instance.
        boot_delay: How long an instance is pending.
        shutdown_delay: How long an instance is shutting down, with its groups still in use.
        group_lag: How long the API does not find a new security group or placement group.

    Example:
        >>> cloud = AwsLocalCloud()
        >>> cloud.start()
        >>> cloud.set_capacity("p5.48xlarge", "us-east-1a", 0)
        >>> cloud.alive()
        []
        >>> cloud.stop()
    """

    name = "aws"
    lag = Duration("_state.timing.lag")
    boot_delay = Duration("_state.timing.boot")
    shutdown_delay = Duration("_state.timing.shutdown")
    group_lag = Duration("_state.group_lag")

    def __init__(self, *, store: Store = "own", clock: Clock | None = None) -> None:
        """Create a local cloud that is not started.

        Args:
            store: Where instances are stored, see the class.
            clock: The clock of lag and delays; the machine's by default.
        """
        clock = clock or SystemClock()
        self.store: Store = store
        self.faults = Faults()
        self._injector = FaultInjector(self.faults, clock)
        self._chassis = Chassis("AWS")
        self._shells = Shells(self)
        self._state = State(clock.now)
        self._moto = Moto()
        self._main = Account(self._state, self._moto, store)
        self._accounts = {"": self._main}
        self._apps: dict[str, AwsApp] = {}
        self._keys = Keys()
        self._foreign = ForeignResources(self._everything)

    # --- the server ---------------------------------------------------------------------------------------------------

    @property
    def endpoint_url(self) -> str:
        """The URL of all services; only after `start`."""
        return self._chassis.endpoint_url

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables that connect any process to this cloud, and to no account of the user's."""
        url = self.endpoint_url
        variables = {
            "AWS_ENDPOINT_URL": url,
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
            "AWS_ACCESS_KEY_ID": _KEY_ID,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_SESSION_TOKEN": "local",
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_REGION": _REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            # If the environment names a profile of the user's, the SDK fails unless the profile exists: this one does.
            "AWS_PROFILE": "default",
            "AWS_DEFAULT_PROFILE": "default",
            "AWS_CONFIG_FILE": str(self._chassis.folder / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_USE_FIPS_ENDPOINT": "false",
            "AWS_USE_DUALSTACK_ENDPOINT": "false",
        }
        return self._chassis.environment(variables | {f"AWS_ENDPOINT_URL_{service}": url for service in _SERVICES})

    def start(self) -> None:
        """Start the server and return when it answers; takes a second or two, mostly for moto's import."""
        if self._chassis.is_running:
            return
        self._main.store = self.store
        self._apps = {"": self._main.start(self._injector, self._keys)}
        admin = Admin(self, {"interruptions": self.set_interruptions})
        self._chassis.start({"/": self._answer, PREFIX: admin, SHELLS: self._shells})
        (self._chassis.folder / "config").write_text(_profile(_KEY_ID), encoding="utf-8")

    def stop(self) -> None:
        """Stop the server and delete everything in the cloud; does nothing if the server does not run."""
        if not self._chassis.is_running:
            return
        self._shells.stop()
        self._chassis.stop()
        for account in self._accounts.values():
            account.stop()
        self._accounts = {"": self._main}
        self._foreign.clear()

    def _answer(self, request: Request) -> Response | None:
        return self._apps[self._keys.account_of(key_of(request))](request)

    def add_account(self, account: str) -> Mapping[str, str]:
        """Add an account; see `LocalCloud.add_account`."""
        key_id = f"AKIA{account:0>16}"
        state = self._state.other_account()
        state.zones.draw(account)
        other = Account(state, Moto(account), self.store)
        self._apps[account], self._accounts[account] = other.start(self._injector, self._keys), other
        self._keys.add(key_id, account)
        file = self._chassis.folder / f"config-{account}"
        file.write_text(_profile(key_id), encoding="utf-8")
        return {**self.environment, "AWS_ACCESS_KEY_ID": key_id, "AWS_CONFIG_FILE": str(file)}

    def revoke_key(self, key_id: str, *, fault: KeyFault = "unknown") -> None:
        """Accept an access key no longer; "expired" refuses it as temporary credentials that have expired."""
        self._keys.revoke(key_id, fault)

    @property
    def account(self) -> str:
        """The number of the main account."""
        return self._moto.account

    def completed_moto(self) -> AbstractContextManager[None]:
        """Return a context manager that completes the moto of the caller; this cloud needs not be started."""
        return completed_moto()

    # --- conditions ---------------------------------------------------------------------------------------------------

    def set_delays(self, *, lag: float = 0, boot: float = 0, shutdown: float = 0) -> None:
        """Set `lag`, `boot_delay` and `shutdown_delay` in seconds."""
        self._state.timing.set_seconds(lag=lag, boot=boot, shutdown=shutdown)

    def set_capacity(self, instance_type: str, place: str, nodes: int | None) -> None:
        """Limit how many instances of a type a zone has; see `LocalCloud.set_capacity`.

        Raises:
            ValueError: The zone does not offer the type.
        """
        with self._state.lock:
            if place not in self._state.offered(_region_of(place)).get(instance_type, ()):
                raise ValueError(f"{instance_type} is not offered in {place}")
            self._state.capacity.set(place, instance_type, nodes)

    def set_quota(self, quota: str, region: str, value: float) -> None:
        """Limit how many vCPUs, or elastic IP addresses, a quota allows; see `LocalCloud.set_quota`.

        Args:
            quota: Its code ("L-417A185B") or its name.
            region: The region.
            value: The limit in vCPUs or addresses.

        Raises:
            ValueError: EC2 has no such quota.
        """
        code = next((kind.code for kind in QUOTAS if quota in (kind.code, kind.name)), None)
        if quota in ADDRESS_QUOTA:
            code = ADDRESS_QUOTA[0]
        if code is None:
            raise ValueError(f"quota {quota!r}: must be one of {', '.join(kind.code for kind in QUOTAS)}")
        with self._state.lock:
            self._state.quotas.set(region, code, value)

    def add_reservation(
        self,
        instance_type: str,
        place: str,
        nodes: int,
        *,
        tags: Mapping[str, str] | None = None,
        is_block: bool = False,
        ends_at: datetime | None = None,
        tenancy: Literal["default", "dedicated"] = "default",
    ) -> str:
        """Add a capacity reservation, or a capacity block, and return its id; see `LocalCloud.add_reservation`."""
        if instance_type not in instance_types():
            raise ValueError(f"{instance_type}: no such instance type")
        with self._state.lock:
            reservation = CapacityReservation(
                id=self._state.new_id("cr"),
                instance_type=instance_type,
                zone=place,
                total=nodes,
                is_block=is_block,
                tags=dict(tags or {}),
                created_at=self._state.now(),
                ends_at=ends_at,
                tenancy=tenancy,
            )
            self._state.region(_region_of(place)).reservations[reservation.id] = reservation
        return reservation.id

    # --- outside actors -----------------------------------------------------------------------------------------------

    def preempt(self, node_id: str) -> None:
        """Terminate a spot instance with the state reason of a spot interruption; see `LocalCloud.preempt`.

        Raises:
            ValueError: No spot instance has this id.
        """
        if not self._find(node_id)[1].launch.spot:
            raise ValueError(f"{node_id} is not a spot instance")
        self.terminate_node(node_id, *SPOT_TERMINATED)

    def impair(
        self,
        node_id: str,
        *,
        check: Literal["system", "instance", "attached-ebs"] = "instance",
        fails: bool = True,
    ) -> None:
        """Make a status check of an instance fail from now on, or pass again.

        Raises:
            ValueError: No instance has this id, or EC2 has no such check.
        """
        if check not in STATUS_CHECKS:
            raise ValueError(f"check {check!r}: must be one of {', '.join(STATUS_CHECKS)}")
        with self._state.lock:
            failing = self._find(node_id)[1].failing
            if fails:
                failing[check] = self._state.now()
            else:
                failing.pop(check, None)

    def measure(self, node_id: str, load: Load, *, accelerator: int = 0, minutes: float = 15) -> None:
        """Add measurements to CloudWatch for the minutes up to now; see `LocalCloud.measure`.

        CPU and network are EC2's own metrics: one value in five minutes, or in each minute if the launch asked for detailed
        monitoring. Accelerator metrics are those of the CloudWatch agent: one value in each minute.

        Args:
            node_id: The id of the instance.
            load: Metric -> its value, in the metric's unit.
            accelerator: The number of the accelerator that the accelerator metrics are about.
            minutes: For how many minutes.
        """
        with self._state.lock:
            put_measurements(
                self._moto,
                self._find(node_id)[1],
                by_metric(load),
                accelerator=accelerator,
                lasted=timedelta(minutes=minutes),
                now=self._state.now(),
            )

    def terminate_node(self, node_id: str, code: str = USER_TERMINATED[0], message: str = USER_TERMINATED[1]) -> None:
        """Terminate an instance at once with this state reason; see `LocalCloud.terminate_node`."""
        with self._state.lock:
            account, region, instance = self._locate(node_id)
            now = self._state.now()
            if self.store == "moto":
                account.moto.ec2(region.name).terminate_instances([node_id])
            region.terminate(instance, now, (code, message), now)

    def stop_node(self, node_id: str) -> None:
        """Stop an instance; see `LocalCloud.stop_node`."""
        with self._state.lock:
            account, region, instance = self._locate(node_id)
            account.stop_in_moto(region.name, node_id)
            instance.is_stopped, instance.reason, instance.reason_at = True, USER_TERMINATED, self._state.now()

    def power_off(self, node_id: str) -> None:
        """Stop or terminate an instance, by its shutdown behaviour; see `LocalCloud.power_off`."""
        with self._state.lock:
            behavior = self._find(node_id)[1].shutdown_behavior
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
        reason = ("Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown")
        if behavior == "terminate":
            self.terminate_node(node_id, *reason)
        else:
            self.stop_node(node_id)

    def start_node(self, node_id: str) -> None:
        """Start a stopped instance; see `LocalCloud.start_node`."""
        with self._state.lock:
            account, region, instance = self._locate(node_id)
            account.start_in_moto(region.name, node_id)
            instance.is_stopped, instance.reason = False, None

    def remove_tags(self, node_id: str) -> None:
        """Remove all tags of an instance; see `LocalCloud.remove_tags`."""
        with self._state.lock:
            account, _, instance = self._locate(node_id)
            account.remove_tags(instance)

    def protect(self, node_id: str, *, is_protected: bool = True) -> None:
        """Set the termination protection of an instance; see `LocalCloud.protect`.

        Raises:
            ValueError: Spot instances can't be protected.
        """
        with self._state.lock:
            _, _, instance = self._locate(node_id)
            if instance.launch.spot:
                raise ValueError(f"{node_id} is a spot instance, which can't be protected")
            instance.is_protected = is_protected

    def deny_termination(self, node_id: str, *, is_denied: bool = True) -> None:
        """Let a policy deny to terminate an instance, or remove that policy."""
        with self._state.lock:
            self._locate(node_id)[2].is_undeletable = is_denied

    def set_free_addresses(self, subnet: str, count: int, *, region: str = _REGION) -> None:
        """Set how many addresses of a subnet are free, in addition to those that our instances use."""
        with self._state.lock:
            self._moto.set_free_addresses(region, subnet, count)
            self._state.limited_subnets.add(subnet)

    def set_spot_price(self, instance_type: str, zone: str, price: float, *, at: datetime | None = None) -> None:
        """Change the spot price of a type in a zone, now or at another time; before the first change it is that of the tables."""
        with self._state.lock:
            history = self._state.spot_prices.setdefault((zone, instance_type), [])
            history.append((at or self._state.now(), price))
            history.sort()

    def set_price(
        self, instance_type: str, region: str, hourly_usd: float | None, *, purchase: Purchase = "on_demand"
    ) -> None:
        """Set the on-demand price in the price list, or the spot price of all zones from now on; see `LocalCloud.set_price`.

        Raises:
            ValueError: The region does not sell it as spot, it is a spot price of None, or it is bought in another way.
        """
        if purchase == "on_demand":
            with self._state.lock:
                self._state.prices[instance_type, region] = hourly_usd
            return
        zones = self._state.offered(region).get(instance_type, ())
        if purchase != "spot" or hourly_usd is None or not zones:
            raise ValueError(f"{instance_type} in {region} can't have a {purchase} price of {hourly_usd}")
        for zone in zones:
            self.set_spot_price(instance_type, zone, hourly_usd)

    def set_interruptions(self, instance_type: str, region: str, number: int) -> None:
        """Set how often spot nodes of a type are interrupted: 0 for less than 5 % a month, up to 4 for more than 20 %.

        Raises:
            ValueError: There is no such range.
        """
        if not 0 <= number < len(RANGES):
            raise ValueError(f"range {number}: must be 0 to {len(RANGES) - 1}")
        with self._state.lock:
            self._state.interruptions[instance_type, region] = number

    def set_region(self, region: str, status: RegionStatus) -> None:
        """Enable a region for the account, leave it disabled or unverified, or let a policy of the organisation deny it."""
        with self._state.lock:
            self._state.region_status[region] = status

    def draw_zone_names(self, seed: int) -> None:
        """Give the zones other names in the account; their ids stay. Call it before anything is created."""
        with self._state.lock:
            self._state.zones.draw(seed)

    def withdraw(self, instance_type: str, place: str) -> None:
        """Sell an instance type no longer in a region or in a zone."""
        with self._state.lock:
            self._state.withdrawn.add((instance_type, place))

    def delete_default_vpcs(self) -> None:
        """Delete the default VPC of every region. Call it before anything is created."""
        with self._state.lock:
            self._moto.lacks_default_vpcs = True

    def refuse_default_key(self, region: str) -> None:
        """Let instances with encrypted volumes end at their launch, because the key of the volumes can't be used.

        Works with the cloud's own store only.
        """
        with self._state.lock:
            self._state.unusable_keys.add(region)

    def _locate(self, instance_id: str) -> tuple[Account, Region, Instance]:
        for account in self._accounts.values():
            for region, instance in account.instances():
                if instance.id == instance_id:
                    return account, region, instance
        raise ValueError(f"{instance_id}: no such instance")

    def _find(self, instance_id: str) -> tuple[Region, Instance]:
        return self._locate(instance_id)[1:]

    # --- what exists --------------------------------------------------------------------------------------------------

    def running_ids(self) -> list[str]:
        """Return the ids of the instances that run; see `LocalCloud.running_ids`."""
        with self._state.lock:
            now = self._state.now()
            return [
                instance.id
                for account in self._accounts.values()
                for region, instance in account.instances()
                if instance.state(now) == "running" and not self._foreign.has("instance", region.name, instance.id)
            ]

    def group_names(self, node_id: str) -> list[str]:
        """Return the names of the security groups of an instance, as its metadata service shows them."""
        with self._state.lock:
            return sorted({name for each in self._find(node_id)[1].interfaces for _, name in each.spec.groups})

    def reachable(self, node_id: str) -> bool:
        """Return whether SSH from outside the VPC reaches an instance that runs."""
        with self._state.lock:
            account, _, instance = self._locate(node_id)
            return instance.state(self._state.now()) == "running" and is_reachable(account.moto, instance)

    def has_way_out(self, node_id: str) -> bool:
        """Return whether an instance can open a connection to the internet."""
        with self._state.lock:
            account, _, instance = self._locate(node_id)
            return has_way_out(account.moto, instance)

    def metadata_tags(self, node_id: str) -> Mapping[str, str]:
        """Return the tags of an instance as its metadata service shows them; empty if the launch has not asked for them.

        On the Xen hypervisor these are the tags of the launch: earlier editions of
        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html promise an update without a stop and a start
        for Nitro types only.
        """
        with self._state.lock:
            instance = self._find(node_id)[1]
            if instance.launch.metadata.get("InstanceMetadataTags") != "enabled":
                return {}
            is_xen = instance_types()[instance.launch.instance_type].is_xen
            return dict(instance.launch.tags.get("instance", {}) if is_xen else instance.tags)

    def boot_script(self, node_id: str) -> str:
        """Return the user data of an instance, in base64 as it was sent."""
        with self._state.lock:
            return self._find(node_id)[1].launch.user_data

    def authorized_keys(self, node_id: str) -> list[str]:
        """Return the keys that the user data of an instance lets log in; see `LocalCloud.authorized_keys`."""
        return keys_in(self.boot_script(node_id))

    def alive(self) -> list[Resource]:
        """Return everything that exists in every region; see `LocalCloud.alive`.

        Default VPCs, reservations and foreign resources are left out.
        """
        return self._foreign.others()

    def _everything(self) -> Iterable[Resource]:
        with self._state.lock:
            return [item for account in self._accounts.values() for item in account.resources()]

    def seed_foreign(self, region: str = _REGION) -> None:
        """Create foreign resources in a region; see `LocalCloud.seed_foreign`."""
        with self._foreign.registering(), self._state.lock:
            seeder = ForeignSeeder(self._state, self._moto, self._main.handlers, region)
            seeder.seed(volumes_in_moto=self.store == "moto")

    def foreign_intact(self) -> bool:
        """Return whether every foreign resource still exists with its tags."""
        return self._foreign.are_intact()


def _profile(key_id: str) -> str:
    """Return a configuration file of AWS with one profile."""
    return f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {_SECRET}\n"


def _region_of(zone: str) -> str:
    return zone.rstrip("abcdefghijklmnopqrstuvwxyz")
