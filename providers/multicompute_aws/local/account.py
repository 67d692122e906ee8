"""An account of the local AWS: its records, and the handlers of its calls."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from multicompute.provider import Resource
from multicompute.testing.local.fault_injection import FaultInjector
from multicompute_aws.local.addresses import Addresses
from multicompute_aws.local.app import AwsApp
from multicompute_aws.local.attachments import Attachments
from multicompute_aws.local.consoles import Consoles
from multicompute_aws.local.groups import Groups
from multicompute_aws.local.instances import Handler, Instances
from multicompute_aws.local.inventory import list_resources
from multicompute_aws.local.keys import Keys
from multicompute_aws.local.launcher import Launcher
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.moto_instances import MotoInstances
from multicompute_aws.local.places import Places
from multicompute_aws.local.security_groups import SecurityGroups
from multicompute_aws.local.services import Services
from multicompute_aws.local.state import Instance, Region, State
from multicompute_aws.local.status_checks import StatusChecks
from multicompute_aws.local.tagging import Tagging

Store = Literal["own", "moto"]


class Account:
    """An account with its resources.

    Attributes:
        handlers: The handlers of EC2's actions; only after `start`.
    """

    def __init__(self, state: State, moto: Moto, store: Store) -> None:
        """Create an account without resources; `start` makes it answer."""
        self.state = state
        self.moto = moto
        self.store: Store = store
        self.handlers: Mapping[str, Handler] = {}

    def start(self, injector: FaultInjector, keys: Keys) -> AwsApp:
        """Import moto, and return the application that answers calls in this account."""
        self.moto.start()
        self.state.limits_all_subnets = self.store == "moto"
        services = Services(self.state, self.moto)
        launcher = Launcher(self.state, self.moto)
        handlers: dict[str, Handler] = {**Groups(self.state, self.moto).handlers(), **services.handlers()}
        handlers |= Tagging(self.state, self.moto, instances_in_moto=self.store == "moto").handlers()
        if self.store == "moto":
            handlers |= MotoInstances(self.state, self.moto, launcher).handlers()
        else:
            handlers |= Instances(self.state, self.moto, launcher).handlers()
            handlers |= Attachments(self.state, self.moto).handlers()
        handlers |= StatusChecks(self.state).handlers()
        handlers |= Consoles(self.state).handlers()
        handlers |= Addresses(self.state, self.moto).handlers()
        handlers |= Places(self.state, self.moto).handlers()
        handlers |= SecurityGroups(self.state, self.moto).handlers()
        self.handlers = handlers
        return AwsApp(self.state, self.moto, injector, services, handlers, keys)

    def stop(self) -> None:
        """Delete everything in the account."""
        self.moto.stop()
        self.state.regions.clear()

    def instances(self) -> Iterator[tuple[Region, Instance]]:
        """Yield every instance with its region; the caller holds the lock."""
        for region in self.state.regions.values():
            yield from ((region, instance) for instance in region.instances.values())

    def resources(self) -> Iterable[Resource]:
        """Return everything that exists, except default VPCs and reservations; the caller holds the lock."""
        return list_resources(self.state, self.moto, instances_in_moto=self.store == "moto")

    def stop_in_moto(self, region: str, instance_id: str) -> None:
        """Stop an instance in moto's store, if instances are there."""
        if self.store == "moto":
            self.moto.ec2(region).stop_instances([instance_id])

    def start_in_moto(self, region: str, instance_id: str) -> None:
        """Start an instance in moto's store, if instances are there."""
        if self.store == "moto":
            self.moto.ec2(region).start_instances([instance_id])

    def remove_tags(self, instance: Instance) -> None:
        """Remove all tags of an instance."""
        if self.store == "moto":
            self.moto.ec2(instance.launch.region).delete_tags([instance.id], dict.fromkeys(instance.tags))
        instance.tags.clear()
