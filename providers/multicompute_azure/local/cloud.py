"""The local Azure: one endpoint on 127.0.0.1 for all services, and what a test can do with it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from multicompute.clock import Clock, SystemClock
from multicompute.offer import Purchase
from multicompute.provider import Resource
from multicompute.testing.faults import Faults
from multicompute.testing.local.admin import PREFIX, Admin
from multicompute.testing.local.chassis import Chassis
from multicompute.testing.local.fault_injection import FaultInjector
from multicompute.testing.local.foreign import ForeignResources
from multicompute.testing.local.forwarded import Duration, Forwarded
from multicompute.testing.local.measurements import Load
from multicompute.testing.local.server import Request
from multicompute.testing.local.shells import PREFIX as SHELLS
from multicompute.testing.local.shells import Shells
from multicompute_azure.local import foreign, hardware, schema
from multicompute_azure.local.accounts import Subscriptions
from multicompute_azure.local.admission import REGIONAL, SPOT, Admission, Stockout
from multicompute_azure.local.app import AzureApp
from multicompute_azure.local.arm import SUBSCRIPTION, TENANT, dig
from multicompute_azure.local.compute import Compute
from multicompute_azure.local.graph import RATES, Graph
from multicompute_azure.local.groups import Groups
from multicompute_azure.local.guards import GuardKind
from multicompute_azure.local.identity import AUTHORITY, Identity
from multicompute_azure.local.images import Details
from multicompute_azure.local.instances import Instances
from multicompute_azure.local.inventory import RESERVED, SUBNETS, kind_of, list_resources, name_of
from multicompute_azure.local.listing import Listing
from multicompute_azure.local.machines import Machines
from multicompute_azure.local.monitoring import Monitoring
from multicompute_azure.local.network import Networks
from multicompute_azure.local.operations import Operations
from multicompute_azure.local.prices import RetailPrices
from multicompute_azure.local.relations import parts_of
from multicompute_azure.local.routes import Handler
from multicompute_azure.local.scale_sets import ScaleSets
from multicompute_azure.local.state import ArmResource, Group, Machine, State
from multicompute_azure.local.tokens import HEADER, Tokens

_REGION = "eastus"


class AzureLocalCloud:
    """Azure on 127.0.0.1: Resource Manager, compute and network in memory, checked against the SDK's own models.

    Each instance of this class is a subscription of its own. See `multicompute.testing.LocalCloud` for the members that every
    local cloud has.

    Attributes:
        faults: The faults that wait for calls, and a record of all calls, by operation
            ("virtualMachineScaleSets.createOrUpdate"). A fault of "<operation>.operation" makes the long-running operation that a
            call starts fail, after half of it is done.
        subscription_id: The id of the subscription.
        lag: How long lists omit a new resource, and how long Resource Manager's list still shows a deleted one.
        boot_delay: How long a machine, and the scale set that creates it, is being created.
        shutdown_delay: How long a deletion takes; a resource group is deleted in three steps, each after a third of this time.
        operation_delay: How long any other long-running operation takes.
        operation_polls: How many times the status of an operation is "InProgress" at least.
        retry_after: The delay in the Retry-After header of responses about operations.
        group_lag: How long other services answer that a new resource group does not exist.
        nic_reservation: How long a network interface stays reserved for a deleted machine: 180 seconds in Azure, none here by default.
        partial: Whether a scale set that fails for lack of capacity keeps the machines that it got, billed. It does by default.
        stockout: How a lack of capacity is reported; see `Admission`.
        copies_tags: Whether the tags of a scale set reach its machines and their disks. They do by default; no page of Microsoft's says so.
        address_delay: How long the public address of a new machine is not assigned yet.
        page_size: The number of entries on a page of a list.
        prices_page_size: The number of rows on a page of the price list.
        locations: The regions that the subscription has; all by default.
        tags_with_tag_filter: Whether a list of resources filtered by tag shows tags. According to its documentation Azure's does not.
    """

    name = "azure"
    subscription_id = SUBSCRIPTION
    lag = Duration("_state.timing.lag")
    boot_delay = Duration("_state.timing.boot")
    shutdown_delay = Duration("_state.timing.shutdown")
    operation_delay = Duration("_state.timing.operation")
    operation_polls = Forwarded[int]("_state.timing.polls")
    retry_after = Duration("_operations.retry_after")
    group_lag = Duration("_state.group_lag")
    nic_reservation = Duration("_state.nic_reservation")
    partial = Forwarded[bool]("_scale_sets.partial")
    stockout = Forwarded[Stockout]("_admission.stockout")
    copies_tags = Forwarded[bool]("_machines.copies_tags")
    address_delay = Duration("_machines.address_delay")
    page_size = Forwarded[int]("_listing.page_size")
    prices_page_size = Forwarded[int]("_prices.page_size")
    locations = Forwarded[frozenset[str]]("_state.locations")
    tags_with_tag_filter = Forwarded[bool]("_listing.tags_with_tag_filter")

    def __init__(self, *, clock: Clock | None = None) -> None:
        """Create a local cloud that is not started.

        Args:
            clock: The clock of lag and delays; the machine's by default.

        Raises:
            ModuleNotFoundError: The SDK, whose models are needed to check requests, is not installed.
        """
        schema.require_models()
        clock = clock or SystemClock()
        self._clock = clock
        self._account = SUBSCRIPTION
        self._others: dict[str, AzureLocalCloud] = {}
        self._apps: dict[str, AzureApp] = {}
        self._identity = Identity()
        self.faults = Faults()
        self._injector = FaultInjector(self.faults, clock)
        self._tokens = Tokens(clock.now)
        self._chassis = Chassis("Azure")
        self._shells = Shells(self)
        self._state = State(clock.now)
        self._listing = Listing(self._state)
        self._operations = Operations(self._state)
        self._admission = Admission(self._state)
        self._machines = Machines(self._state, self._listing, self._operations, self._admission)
        self._networks = Networks(self._state, self._listing, self._operations)
        self._compute = Compute(self._state, self._listing, self._operations, self._admission)
        self._scale_sets = ScaleSets(
            self._state, self._listing, self._operations, self._admission, self._machines, self._networks
        )
        self._instances = Instances(self._state, self._listing, self._operations, self._machines)
        self._monitoring = Monitoring(self._state, self._listing)
        self._prices = RetailPrices(self._injector, lambda: self._state.prices, clock.now, self._state.sizes)
        self._foreign = ForeignResources(self._everything)

    # --- the server ---------------------------------------------------------------------------------------------------

    @property
    def endpoint_url(self) -> str:
        """The URL of all services; only after `start`."""
        return self._chassis.endpoint_url

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables that connect any process to this cloud, and to no account of the user's."""
        return self._environment_of(SUBSCRIPTION)

    def _environment_of(self, account: str) -> Mapping[str, str]:
        url = self.endpoint_url
        return self._chassis.environment(
            {
                "MULTICOMPUTE_AZURE__ENDPOINT_URL": url,
                "MULTICOMPUTE_AZURE__SUBSCRIPTION_ID": account,
                "AZURE_SUBSCRIPTION_ID": account,
                "AZURE_TENANT_ID": TENANT,
                # azure-identity refuses an authority over http, but accepts this endpoint of a managed identity.
                "IDENTITY_ENDPOINT": f"{url}/msi/token",
                "IDENTITY_HEADER": HEADER,
                # Bypasses the user's secrets and logins. Their variables cannot be emptied: an empty one counts as set.
                "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
                "AZURE_CONFIG_DIR": str(self._chassis.folder),
            }
        )

    def start(self) -> None:
        """Start the server and return when it answers; does nothing if it runs."""
        if self._chassis.is_running:
            return
        app = Subscriptions(self._app(), self._apps)
        admin = Admin(self, {"restrict": self.restrict, "evictions": self.set_eviction_rate})
        self._chassis.start(
            {
                "/": app,
                "/api/": self._prices,
                "/msi/": self._tokens,
                AUTHORITY: self._identity,
                PREFIX: admin,
                SHELLS: self._shells,
            }
        )

    def _app(self) -> AzureApp:
        handlers: dict[str, Handler] = {
            **Groups(self._state, self._listing, self._operations).handlers(),
            **self._networks.handlers(),
            **self._compute.handlers(),
            **self._machines.handlers(),
            **self._scale_sets.handlers(),
            **self._instances.handlers(),
            **self._monitoring.handlers(),
            **Graph(self._state).handlers(),
        }

        def check_token(request: Request) -> None:
            self._identity.check(request, self._account)

        return AzureApp(self._state, self._injector, handlers, self._operations, check_token)

    def stop(self) -> None:
        """Stop the server and delete everything in the cloud; does nothing if the server does not run."""
        if not self._chassis.is_running:
            return
        self._shells.stop()
        self._chassis.stop()
        for part in (self._state, self._monitoring, self._foreign, self._identity, self._others, self._apps):
            part.clear()

    # --- conditions ---------------------------------------------------------------------------------------------------

    def set_delays(self, *, lag: float = 0, boot: float = 0, shutdown: float = 0, operation: float = 0) -> None:
        """Set `lag`, `boot_delay`, `shutdown_delay` and `operation_delay` in seconds."""
        self._state.timing.set_seconds(lag=lag, boot=boot, shutdown=shutdown, operation=operation)

    def set_capacity(self, instance_type: str, place: str, nodes: int | None) -> None:
        """Limit how many machines of a size a region ("eastus") or a zone ("eastus-1") has; see `LocalCloud.set_capacity`.

        Raises:
            ValueError: Azure has no such size or place, or the place does not sell the size.
        """
        size = hardware.check_sold(instance_type, place)
        with self._state.lock:
            self._state.capacity.set(place, size, nodes)

    def set_quota(self, quota: str, region: str, value: float) -> None:
        """Limit how many cores a quota allows; see `LocalCloud.set_quota`.

        Args:
            quota: "cores", "lowPriorityCores", a family, or a size for its family.
            region: The region.
            value: The limit in cores.

        Raises:
            ValueError: Azure has no such quota or region.
        """
        hardware.region_of(region)
        size = hardware.size_of(quota)
        known = {name.lower() for name in (REGIONAL, SPOT, *(each.family for each in hardware.sizes().values()))}
        name = (size.family if size is not None else quota).lower()
        if name not in known:
            raise ValueError(f"quota {quota!r}: must be one of {', '.join(sorted(known))}")
        with self._state.lock:
            self._state.quotas.set(region, name, int(value))

    def set_price(
        self, instance_type: str, region: str, hourly_usd: float | None, *, purchase: Purchase = "on_demand"
    ) -> None:
        """Set what a size costs, in the price list and for the ceiling of spot machines; see `LocalCloud.set_price`.

        Raises:
            ValueError: The region does not sell the size, it is not sold in this way, or the price is not above 0.
        """
        if purchase not in ("on_demand", "spot") or (hourly_usd is not None and hourly_usd <= 0):
            raise ValueError(f"{hourly_usd} USD, {purchase}: must be above 0, and bought on_demand or as spot")
        key = (region, hardware.check_sold(instance_type, region), purchase)
        with self._state.lock:
            # The list omits what costs nothing.
            self._state.prices[key] = hourly_usd or 0.0

    def set_eviction_rate(self, instance_type: str, region: str, rate: str) -> None:
        """Set how often spot machines of a size are evicted in a region, as Resource Graph then shows.

        Args:
            instance_type: The size.
            region: The region.
            rate: One of Azure's ranges in per cent per hour: "0-5", "5-10", "10-15", "15-20" or "20+".

        Raises:
            ValueError: The region does not sell the size, or there is no such range.
        """
        if rate not in RATES:
            raise ValueError(f"{rate!r} must be one of {', '.join(RATES)}")
        key = (region, hardware.check_sold(instance_type, region))
        with self._state.lock:
            self._state.eviction_rates[key] = rate

    def list_size(
        self,
        instance_type: str,
        prices: Mapping[str, float],
        *,
        spot_prices: Mapping[str, float] | None = None,
        capabilities: Mapping[str, str],
    ) -> None:
        """Add a size that the packaged tables do not have to the price list and the list of SKUs; it can't be launched.

        Args:
            instance_type: The name of the size.
            prices: Region -> price in USD per hour.
            spot_prices: The same for spot machines.
            capabilities: What the list of SKUs says of it ("vCPUs", "MemoryGB", "GPUs", ...).
        """
        family = hardware.family_of(instance_type)
        size = hardware.Size(
            instance_type,
            family,
            0,
            0,
            0,
            "x64",
            has_rdma=False,
            prices=dict(prices),
            spot_prices=dict(spot_prices or {}),
        )
        with self._state.lock:
            self._state.new_sizes[instance_type.lower()] = (size, dict(capabilities))

    def restrict(self, instance_type: str, place: str, *, is_restricted: bool = True) -> None:
        """Restrict a size in a region or zone for the subscription, as its list of SKUs then shows.

        Raises:
            ValueError: Azure has no such size or place, or the place does not sell the size.
        """
        key = (place, hardware.check_sold(instance_type, place))
        with self._state.lock:
            (self._state.restrictions.add if is_restricted else self._state.restrictions.discard)(key)

    def sell_without_zones(self, instance_type: str, region: str) -> None:
        """Sell a size for a region as a whole, and in none of its zones, as its list of SKUs then shows.

        Raises:
            ValueError: The region does not sell the size.
        """
        key = (region, hardware.check_sold(instance_type, region))
        with self._state.lock:
            self._state.without_zones.add(key)

    def close_region(self, region: str, code: str = "RequestDisallowedByPolicy") -> None:
        """Let a policy refuse everything new in a region.

        Args:
            region: The region.
            code: "RequestDisallowedByPolicy" for a policy of the organisation, "RequestDisallowedByAzure" for one of Azure.
        """
        with self._state.lock:
            self._state.closed[hardware.region_of(region)] = code

    def replicate_image(self, image_id: str, *regions: str) -> None:
        """Replicate an image of a gallery to these regions only; without this call it is in all regions."""
        with self._state.lock:
            self._state.image_regions[image_id.lower()] = frozenset(regions)

    def define_image(self, image_id: str, *, plan: Mapping[str, str] | None = None, security: str = "") -> None:
        """Define an image of a gallery.

        Args:
            image_id: The id of the image, without a version.
            plan: The plan that it is sold with.
            security: The value of its feature SecurityType.
        """
        with self._state.lock:
            self._state.gallery_images[image_id.lower()] = Details(plan, security)

    def add_reservation(
        self, instance_type: str, place: str, nodes: int, *, tags: Mapping[str, str] | None = None
    ) -> str:
        """Add a capacity reservation, and return the id of its group; see `LocalCloud.add_reservation`."""
        name, region = hardware.check_sold(instance_type, place), hardware.region_of(place)
        size = hardware.sizes()[name.lower()]
        group = f"{RESERVED}-{region}"
        with self._state.lock:
            self._state.groups.setdefault(group, Group(group, region, {}, self._state.now()))
            zone = place.removeprefix(region).removeprefix("-")
            return self._compute.reserve(group, region, zone, size, nodes, dict(tags or {}))

    def add_account(self, account: str) -> Mapping[str, str]:
        """Add an empty subscription in the same tenant; see `LocalCloud.add_account`."""
        other = AzureLocalCloud(clock=self._clock)
        other._account, other._identity = account, self._identity
        other.faults, other._injector = self.faults, self._injector
        self._others[account] = other
        self._apps[account] = other._app()
        return self._environment_of(account)

    def rotate_credentials(
        self, account: str = SUBSCRIPTION, *, code: str = "ExpiredAuthenticationToken"
    ) -> Mapping[str, str]:
        """Require a new client secret for a subscription from now on, and return the environment variables that have it.

        The old secret and all tokens that were issued for it are rejected. The new secret is also accepted as the assertion of a workload
        identity, which is the content of a file.

        Args:
            account: The id of the subscription.
            code: The code with which the old tokens are rejected.
        """
        with self._state.lock:
            secret = self._identity.rotate(account, code)
        credentials = {
            "AZURE_AUTHORITY_HOST": self.endpoint_url,
            "AZURE_CLIENT_ID": "local",
            "AZURE_CLIENT_SECRET": secret,
        }
        return {**self._environment_of(account), **credentials}

    # --- outside actors -----------------------------------------------------------------------------------------------

    def preempt(self, node_id: str) -> None:
        """Delete or deallocate a spot machine, according to its eviction policy; see `LocalCloud.preempt`.

        Raises:
            ValueError: No spot machine has this id.
        """
        with self._state.lock:
            item, machine = self._find(node_id)
            if not machine.spot:
                raise ValueError(f"{node_id} is not a spot machine")
            self._machines.evict(item)

    def measure(self, node_id: str, load: Load, *, accelerator: int = 0, minutes: int = 3) -> None:
        """Add measurements for each of the last minutes; see `LocalCloud.measure`.

        Accelerator metrics are those of a Telegraf agent on the machine; a machine without any of them has no agent.

        Args:
            node_id: The id or the name of the machine.
            load: Metric -> its value, in the metric's unit.
            accelerator: The number of the accelerator that the accelerator metrics are about.
            minutes: For how many minutes.
        """
        with self._state.lock:
            self._monitoring.measure(self._find(node_id)[0], load, accelerator=accelerator, minutes=minutes)

    def impair(self, node_id: str, state: str = "Unavailable", context: str = "Platform Initiated") -> None:
        """Set the availability of a machine in Resource Health.

        Args:
            node_id: The id or the name of the machine.
            state: "Unavailable", "Degraded" or "Unknown"; "Available" makes it healthy again.
            context: Who caused it, "Platform Initiated" or "Customer Initiated".
        """
        with self._state.lock:
            self._monitoring.impair(self._find(node_id)[0], state, context)

    def terminate_node(self, node_id: str) -> None:
        """Delete a machine at once; see `LocalCloud.terminate_node`."""
        with self._state.lock:
            self._machines.delete(self._find(node_id)[0])

    def stop_node(self, node_id: str) -> None:
        """Deallocate a machine, as the portal's Stop button and `az vm deallocate` do; see `LocalCloud.stop_node`."""
        self._set_power(node_id, "deallocated")

    def shut_down(self, node_id: str) -> None:
        """Stop a machine from inside, or by `az vm stop`: it keeps its place on a host and stays billed."""
        self._set_power(node_id, "stopped")

    def power_off(self, node_id: str) -> None:
        """Shut a machine down from inside; see `shut_down`."""
        self.shut_down(node_id)

    def start_node(self, node_id: str) -> None:
        """Start a machine that is stopped or deallocated; see `LocalCloud.start_node`."""
        self._set_power(node_id, "running")

    def _set_power(self, node_id: str, power: str) -> None:
        with self._state.lock:
            self._machines.set_power(self._find(node_id)[0], power)

    def remove_tags(self, node_id: str) -> None:
        """Remove the tags of a machine, its disks, interfaces and addresses; see `LocalCloud.remove_tags`.

        An instance of a Uniform scale set has no tags of its own, so those of its scale set are removed, and its user data.
        """
        with self._state.lock:
            found, machine = self._find(node_id)
            owner = self._state.find(machine.scale_set) if machine.instance_id else None
            if owner is not None:
                owner.tags, machine.user_data = {}, ""
            for item in parts_of(self._state, found):
                item.tags.clear()

    def protect(self, node_id: str, *, is_protected: bool = True, kind: GuardKind = "CanNotDelete") -> None:
        """Lock a machine, or guard it in another way; see `LocalCloud.protect`.

        Args:
            node_id: The id or the name of the machine; or the id of any other resource, or of a resource group.
            is_protected: Whether to add the guard or to remove it.
            kind: A lock, a policy with the effect denyAction, or a deny assignment.
        """
        with self._state.lock:
            scope = node_id if node_id.startswith("/") else self._find(node_id)[0].id
            if is_protected:
                self._state.guards.put(scope, kind)
            else:
                self._state.guards.remove(scope)

    def _find(self, node_id: str) -> tuple[ArmResource, Machine]:
        self._state.catch_up()
        item = self._state.find(node_id)
        if item is None or item.machine is None:
            # The name, which is the last part of the id, is enough. An instance of a Uniform scale set has its vmId in its id.
            names = ((found, (found.name.lower(), name_of(found).lower())) for found, _ in self._state.machines())
            item = next((found for found, known in names if node_id.lower() in known), None)
        if item is None or item.machine is None:
            raise ValueError(f"{node_id}: no such virtual machine")
        return item, item.machine

    # --- what exists --------------------------------------------------------------------------------------------------

    def running_ids(self) -> list[str]:
        """Return the ids of the machines that run; see `LocalCloud.running_ids`."""
        with self._state.lock:
            self._state.catch_up()
            found = [item for item, _ in self._state.machines() if self._machines.is_running(item)]
            ours = (item for item in found if not self._foreign.has(kind_of(item), item.location, item.id))
            names = [name_of(item) for item in sorted(ours, key=lambda item: item.number)]
        for account, other in self._others.items():
            names += [name.replace(SUBSCRIPTION, account) for name in other.running_ids()]
        return names

    def boot_script(self, node_id: str) -> str:
        """Return the custom data of a machine, in base64 as it was sent."""
        with self._state.lock:
            return self._find(node_id)[1].custom_data

    def authorized_keys(self, node_id: str) -> list[str]:
        """Return the keys of the scale set of a machine; see `LocalCloud.authorized_keys`."""
        with self._state.lock:
            owner = self._state.find(self._find(node_id)[1].scale_set)
            profile = dig(owner.body, "properties", "virtualMachineProfile", "osProfile") if owner is not None else None
            keys = dig(profile or {}, "linuxConfiguration", "ssh", "publicKeys") or []
            return [str(key["keyData"]) for key in keys]

    def fabric_of(self, node_id: str) -> str:
        """Return the id of the InfiniBand partition that a machine is in, "" for none: machines reach each other within a partition only.

        "Orchestration modes": InfiniBand networking is for Uniform scale sets with a single placement group, not for Flexible ones.
        "Set up InfiniBand on HPC VMs": instances in different scale sets are isolated from each other.
        """
        with self._state.lock:
            machine = self._find(node_id)[1]
            owner = self._state.find(machine.scale_set)
            size = hardware.size_of(machine.size)
            if owner is None or not machine.instance_id or size is None or not size.has_rdma:
                return ""
            return owner.id if owner.body["properties"].get("singlePlacementGroup", True) else ""

    def alive(self) -> list[Resource]:
        """Return everything that exists in every region; see `LocalCloud.alive`.

        Subnets, reservations with their groups, and foreign resources are left out.
        """
        found = [resource for resource in self._foreign.others() if resource.kind != SUBNETS]
        for account, other in self._others.items():
            found += [replace(item, id=item.id.replace(SUBSCRIPTION, account)) for item in other.alive()]
        return found

    def _everything(self) -> Iterable[Resource]:
        with self._state.lock:
            self._state.catch_up()
            return list(list_resources(self._state))

    def seed_foreign(self, region: str = _REGION, resource_group: str = "") -> None:
        """Create foreign resources in a region; see `LocalCloud.seed_foreign`.

        Args:
            region: The region.
            resource_group: An existing group to create them in; groups of their own by default.
        """
        with self._foreign.registering(), self._state.lock:
            foreign.seed(self._state, self._machines, region, resource_group)

    def foreign_intact(self) -> bool:
        """Return whether every foreign resource still exists with its tags."""
        return self._foreign.are_intact()
