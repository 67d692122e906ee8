"""The local AWS: one endpoint on 127.0.0.1 for all services, and what a test may prescribe to it and ask of it."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from multicompute.clock import Clock, SystemClock
from multicompute.node import Metric
from multicompute.provider import Resource
from multicompute.testing.faults import Faults
from multicompute.testing.local_admin import Admin
from multicompute.testing.local_server import Server
from multicompute_aws.local.admission import QUOTAS
from multicompute_aws.local.attached import Attached
from multicompute_aws.local.checks import StatusChecks
from multicompute_aws.local.describing import STATUS_CHECKS
from multicompute_aws.local.foreign import ForeignResources
from multicompute_aws.local.front import Front
from multicompute_aws.local.groups import Groups
from multicompute_aws.local.hardware import shapes, zones_of
from multicompute_aws.local.instances import Handler, Instances
from multicompute_aws.local.launching import Launcher
from multicompute_aws.local.monitoring import measure
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.plain import PlainInstances
from multicompute_aws.local.services import Services
from multicompute_aws.local.state import SPOT_TERMINATED, USER_TERMINATED, CapacityReservation, Instance, Region, State
from multicompute_aws.local.tagging import Tagging

Store = Literal["own", "moto"]
_REGION = "us-east-1"
_KEY_ID, _SECRET = "AKIALOCALCLOUD000000", "local"
_PROFILE = f"[default]\naws_access_key_id = {_KEY_ID}\naws_secret_access_key = {_SECRET}\n"
# Each would win over AWS_ENDPOINT_URL if the user had set it.
_SERVICES = ("EC2", "SSM", "STS", "IAM", "SERVICE_QUOTAS", "PRICING", "CLOUDWATCH", "CLOUDWATCH_LOGS", "S3")


class AwsLocalCloud:
    """AWS on 127.0.0.1: moto, and before it what EC2 has and moto lacks, with faults on demand.

    Without further ado everything is there in any number. Each instance of this class is an account of its own.

    Attributes:
        faults: what goes wrong next, by the API's action names ("RunInstances"), and a record of all calls.
        store: where instances live: "own" for a store that holds ten thousand of them, "moto" for moto's own. Read by `start`.
        lag: how long an instance that was just launched can't be found.
        boot_delay, shutdown_delay: how long an instance is pending, and shutting down with its groups still in use.

    Example:
        >>> cloud = AwsLocalCloud()
        >>> cloud.start()
        >>> cloud.set_capacity("p5.48xlarge", "us-east-1a", 0)
        >>> cloud.alive()
        []
        >>> cloud.stop()
    """

    name = "aws"

    def __init__(self, *, store: Store = "own", clock: Clock | None = None) -> None:
        """Make a local cloud that is not started.

        Args:
            store: where instances live, see the class.
            clock: by which lag and delays pass; the machine's by default.
        """
        self.store: Store = store
        self.faults = Faults()
        self._clock = clock or SystemClock()
        self._state = State(self._clock.now)
        self._moto = Moto()
        self._handlers: Mapping[str, Handler] = {}
        self._server: Server | None = None
        self._profile = os.devnull
        self._foreign = ForeignResources(self._state, self._moto)

    @property
    def endpoint_url(self) -> str:
        """The one URL of all services; only after `start`."""
        if self._server is None:
            raise RuntimeError("the local AWS is not started")
        return self._server.url

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which any process reaches it, and can't reach the user's own account."""
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
            # With a profile of the user's still in the environment, the SDK insists on finding it: this one is there.
            "AWS_PROFILE": "default",
            "AWS_DEFAULT_PROFILE": "default",
            "AWS_CONFIG_FILE": self._profile,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_USE_FIPS_ENDPOINT": "false",
            "AWS_USE_DUALSTACK_ENDPOINT": "false",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        return MappingProxyType(variables | {f"AWS_ENDPOINT_URL_{service}": url for service in _SERVICES})

    def start(self) -> None:
        """Begin to serve; takes a second or two, most of it moto's import."""
        if self._server is not None:
            return
        self._moto.start()
        services = Services(self._state, self._moto)
        launcher = Launcher(self._state, self._moto)
        handlers: dict[str, Handler] = {**Groups(self._state, self._moto).handlers(), **services.handlers()}
        handlers |= Tagging(self._state, self._moto, instances_in_moto=self.store == "moto").handlers()
        if self.store == "moto":
            handlers |= PlainInstances(self._state, self._moto, launcher).handlers()
        else:
            handlers |= Instances(self._state, self._moto, launcher).handlers()
            handlers |= Attached(self._state, self._moto).handlers()
        handlers |= StatusChecks(self._state).handlers()
        self._handlers = handlers
        admin = Admin(self.faults, self.alive, self._commands())
        front = Front(self._state, self._moto, self.faults, self._clock, services, handlers, admin)
        server = Server(front)
        server.start()
        descriptor, self._profile = tempfile.mkstemp(prefix="aws-local-", suffix=".ini")
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(_PROFILE)
        self._server = server

    def stop(self) -> None:
        """Stop to serve and forget everything; again is no difference."""
        if self._server is None:
            return
        self._server.stop()
        self._server = None
        Path(self._profile).unlink(missing_ok=True)
        self._moto.stop()
        self._state.regions.clear()
        self._foreign.forget()

    def _commands(self) -> Mapping[str, Any]:
        return {
            "capacity": self.set_capacity,
            "quota": self.set_quota,
            "preempt": self.preempt,
            "impair": self.impair,
            "measure": self.measure,
            "delays": self.set_delays,
        }

    @property
    def lag(self) -> timedelta:
        return self._state.lag

    @lag.setter
    def lag(self, duration: timedelta) -> None:
        self._state.lag = duration

    @property
    def boot_delay(self) -> timedelta:
        return self._state.boot_delay

    @boot_delay.setter
    def boot_delay(self, duration: timedelta) -> None:
        self._state.boot_delay = duration

    @property
    def shutdown_delay(self) -> timedelta:
        return self._state.shutdown_delay

    @shutdown_delay.setter
    def shutdown_delay(self, duration: timedelta) -> None:
        self._state.shutdown_delay = duration

    def set_delays(self, *, lag: float = 0, boot: float = 0, shutdown: float = 0) -> None:
        """Set lag and delays in seconds, for processes that come by HTTP."""
        self.lag, self.boot_delay = timedelta(seconds=lag), timedelta(seconds=boot)
        self.shutdown_delay = timedelta(seconds=shutdown)

    def set_capacity(self, instance_type: str, zone: str, nodes: int | None) -> None:
        """Say how many of an instance type a zone has in all, those that run included; None for any number.

        Raises:
            ValueError: the type is not offered in the zone, so that the call would change nothing.
        """
        if zone not in zones_of(_region_of(zone)).get(instance_type, ()):
            raise ValueError(f"{instance_type} is not offered in {zone}")
        with self._state.lock:
            if nodes is None:
                self._state.capacity.pop((zone, instance_type), None)
            else:
                self._state.capacity[zone, instance_type] = nodes

    def set_quota(self, quota: str, region: str, value: float) -> None:
        """Say how many vCPU a quota allows; `quota` is its code ("L-417A185B") or its name.

        Raises:
            ValueError: there is no such quota.
        """
        code = next((kind.code for kind in QUOTAS if quota in (kind.code, kind.name)), None)
        if code is None:
            raise ValueError(f"quota {quota!r}: there are {', '.join(kind.code for kind in QUOTAS)}")
        with self._state.lock:
            self._state.quotas[region, code] = value

    def add_reservation(
        self,
        instance_type: str,
        zone: str,
        nodes: int,
        *,
        is_block: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Make a capacity reservation, or a capacity block, with capacity of its own; returns its id."""
        if instance_type not in shapes():
            raise ValueError(f"{instance_type}: no such instance type")
        with self._state.lock:
            reservation = CapacityReservation(
                id=self._state.new_id("cr"),
                instance_type=instance_type,
                zone=zone,
                total=nodes,
                is_block=is_block,
                is_open=False,
                tags=dict(tags or {}),
                created_at=self._state.now(),
            )
            self._state.region(_region_of(zone)).reservations[reservation.id] = reservation
        return reservation.id

    def preempt(self, instance_id: str) -> None:
        """Let EC2 take a spot instance back: it is terminated, and its state reason says so.

        Raises:
            ValueError: there is no such spot instance.
        """
        if not self._find(instance_id)[1].launch.spot:
            raise ValueError(f"{instance_id} is no spot instance")
        self.end_instance(instance_id, *SPOT_TERMINATED)

    def impair(
        self,
        instance_id: str,
        *,
        check: Literal["system", "instance", "attached-ebs"] = "instance",
        fails: bool = True,
    ) -> None:
        """Let a status check of an instance fail from now on, or pass again.

        Raises:
            ValueError: there is no such instance, or no such check.
        """
        if check not in STATUS_CHECKS:
            raise ValueError(f"check {check!r}: there are {', '.join(STATUS_CHECKS)}")
        with self._state.lock:
            failing = self._find(instance_id)[1].failing
            if fails:
                failing[check] = self._state.now()
            else:
                failing.pop(check, None)

    def measure(
        self, instance_id: str, load: Mapping[Metric, float], *, accelerator: int = 0, minutes: float = 15
    ) -> None:
        """Let CloudWatch have measured this of an instance in the minutes up to now.

        CPU and network are EC2's own figures, once in five minutes, or each minute where the launch asked for detailed monitoring. What is
        about accelerators comes as from the CloudWatch agent, each minute; what is not in `load` was not measured.

        Args:
            load: figures in the units of `Metric`; by name ("cpu") too.
            accelerator: which of its accelerators the figures about one are of.
            minutes: for how long it was so.
        """
        figures = {Metric(name): value for name, value in load.items()}
        with self._state.lock:
            measure(
                self._moto,
                self._find(instance_id)[1],
                figures,
                accelerator=accelerator,
                lasted=timedelta(minutes=minutes),
                now=self._state.now(),
            )

    def end_instance(self, instance_id: str, code: str = USER_TERMINATED[0], message: str = USER_TERMINATED[1]) -> None:
        """Let an instance end as if from outside, at once, with this state reason."""
        with self._state.lock:
            region, instance = self._find(instance_id)
            now = self._state.now()
            if self.store == "moto":
                self._moto.ec2(region.name).terminate_instances([instance_id])
            region.end(instance, now, (code, message), now)

    def stop_instance(self, instance_id: str) -> None:
        """Let an instance be stopped as if from outside: it exists, and does not run."""
        with self._state.lock:
            region, instance = self._find(instance_id)
            if self.store == "moto":
                self._moto.ec2(region.name).stop_instances([instance_id])
            instance.is_stopped, instance.reason, instance.reason_at = True, USER_TERMINATED, self._state.now()

    def _find(self, instance_id: str) -> tuple[Region, Instance]:
        for region in self._state.regions.values():
            if instance_id in region.instances:
                return region, region.instances[instance_id]
        raise ValueError(f"{instance_id}: no such instance")

    def running_ids(self) -> list[str]:
        """The ids of all instances of any owner that run, foreign resources left out, in the order of their launch."""
        with self._state.lock:
            now = self._state.now()
            return [
                instance.id
                for region in self._state.regions.values()
                for instance in region.instances.values()
                if instance.state(now) == "running" and instance.id not in self._foreign.ids
            ]

    def user_data(self, instance_id: str) -> str:
        """The user data that an instance was given, in base64 as it was sent."""
        with self._state.lock:
            return self._find(instance_id)[1].launch.user_data

    def alive(self) -> list[Resource]:
        """Everything of any owner that exists, in every region: what the account would be billed for, and what lies beside it.

        Left out is what the harness itself put there: default VPCs, reservations and the foreign resources of `seed_foreign`.
        """
        with self._state.lock:
            for name in self._state.regions:
                self._state.region(name)
            found = [*self._own_resources(), *self._moto.resources()]
        kept = (resource for resource in found if resource.id not in self._foreign.ids)
        return sorted(kept, key=lambda resource: (resource.region, resource.kind, resource.id))

    def _own_resources(self) -> Iterator[Resource]:
        now = self._state.now()
        for region in self._state.regions.values():
            if self.store == "own":
                for instance in region.live(now):
                    yield Resource("aws", "instance", instance.id, region.name, billable=True, tags=dict(instance.tags))
                for volume in region.volumes.values():
                    yield Resource("aws", "volume", volume.id, region.name, billable=True, tags=dict(volume.tags))
                for card in region.interfaces.values():
                    yield Resource(
                        "aws", "network-interface", card.id, region.name, billable=False, tags=dict(card.tags)
                    )
            for group in region.placement_groups.values():
                yield Resource("aws", "placement-group", group.name, region.name, billable=False, tags=dict(group.tags))
            for request in region.spot_requests.values():
                if request.state in ("open", "active"):
                    tags = dict(request.tags)
                    yield Resource("aws", "spot-instances-request", request.id, region.name, billable=False, tags=tags)

    def seed_foreign(self, region: str = _REGION) -> None:
        """Put foreign resources into a region: resources of the account that are not ours, and some of another owner of this package."""
        self._foreign.seed(region, self._handlers, in_moto=self.store == "moto")

    def foreign_intact(self) -> bool:
        """Whether every foreign resource still lives, with the tags that it had."""
        return self._foreign.are_intact()


def _region_of(zone: str) -> str:
    return zone.rstrip("abcdefghijklmnopqrstuvwxyz")
