"""The methods of the provider interface, for machines that belong to the user."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from multicompute.clock import Clock, Random, SystemClock, system_random
from multicompute.errors import ProviderError, TransientError
from multicompute.hosts import HostStatus
from multicompute.node import Node, NodeState, Sample
from multicompute.offer import Offer, Quote
from multicompute.provider import (
    TAG_EXPIRES_AT,
    Access,
    Account,
    Availability,
    Capability,
    Check,
    LaunchRequest,
    PriceChange,
    Quotas,
    Resource,
    Selector,
    Settings,
    Teardown,
    expiry_tag,
)
from multicompute.provider_kit.seam import finding
from multicompute.units import counted
from multicompute_static._access import access
from multicompute_static._context import NAME, Context
from multicompute_static._hosts import forget, statuses
from multicompute_static._launch import launch
from multicompute_static._list import Found, find_leases, node_of, resource_of
from multicompute_static._settings import StaticSettings
from multicompute_static._shell import Action, Job
from multicompute_static._terminate import terminate

# The same everywhere: a ledger that several hosts share has one set of machines, whoever's inventory lists them.
_ACCOUNT: Final = Account(("own-machines",), "own machines")


class StaticProvider:
    """Machines of the user, leased in the ledger, marked on the machine, and reached by nothing but SSH; a `HostProvider`."""

    name = NAME
    # A process on each machine ends the lease in time, without us.
    capabilities = frozenset({Capability.EXPIRY, Capability.GLOBAL_LISTING, Capability.HEALTH_CHECKS, Capability.SSH})
    # The ledger and the machines themselves are asked: what is leased is seen at once.
    consistency_window = timedelta(0)
    attempt_timeout = timedelta(minutes=2)
    poll_interval = timedelta(seconds=1)

    def __init__(self, settings: Settings, *, clock: Clock | None = None, random: Random | None = None) -> None:
        """Read the settings; no machine is asked."""
        read = StaticSettings.of(settings)
        self._context = Context(read, settings, clock or SystemClock(), random or system_random())

    @property
    def account(self) -> Account:
        """Own machines belong to no account; all inventories count as one."""
        return _ACCOUNT

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Lease machines, all or none, after a check of each."""
        return launch(self._context, request)

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """Return the leased machines; one that does not answer is IMPAIRED, and one that has ended its lease is GONE."""
        return tuple(map(node_of, find_leases(self._context, selector)))

    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """Return the leased machines; without a cluster or token all machines are asked for markers (I3)."""
        scans = selector.cluster_id is None and selector.token is None
        found = find_leases(self._context, selector, scans=scans)
        return tuple(resource_of(each.lease) for each in found if each.state is not NodeState.GONE)

    def terminate(self, selector: Selector) -> Teardown:
        """End what the cluster started on its machines, and their leases."""
        return terminate(self._context, selector)

    def set_expiry(
        self, selector: Selector, expires_at: datetime | None, *, restore: Mapping[str, str] | None = None
    ) -> None:
        """Move the end of leases on the machines and in the ledger; mark machines again that lack the marker.

        Raises:
            TransientError: A machine did not answer; the others have the new end.
        """
        expiry = {TAG_EXPIRES_AT: expiry_tag(expires_at)}
        found = [each for each in find_leases(self._context, selector) if each.state is not NodeState.GONE]
        tagged = [each for each in found if each.is_answered and each.is_tagged]
        # Only what one of our tokens has leased is ours beyond doubt.
        bare = [each for each in found if each.is_answered and not each.is_tagged and each.lease.is_marked]
        bare = [each for each in bare if restore is not None and each.lease.token in selector.tokens]
        failed = [each.lease.host for each in found if not each.is_answered]
        for members, tags in ((tagged, expiry), (bare, {**(restore or {}), **expiry})):
            failed += self._write_tags(members, tags)
        if failed:
            text = f"static: no answer from {', '.join(failed[:3])}; their leases end when they did before"
            raise TransientError(text, provider=NAME, region=selector.region, code="NoAnswer")

    def access(self, node: Node) -> Access:
        """Return how to log in to a machine: as the inventory says, with the user's own keys."""
        host = self._context.by_id().get(node.id)
        if host is None:
            return Access("", problem="the inventory does not list it any more")
        note = self._context.book.notes().get(node.id)
        return access(self._context.settings, host, pinned=note.host_key if note else "")

    def host_keys(self, nodes: Sequence[Node]) -> Mapping[str, str]:
        """Return nothing: `access` has the host keys that are known."""
        return {}

    def open_ssh(self, region: str, tags: Mapping[str, str]) -> None:
        """Do nothing: the machines are reached over SSH already."""

    def _write_tags(self, found: Sequence[Found], tags: Mapping[str, str]) -> list[str]:
        """Change tags on machines and in the ledger; return the machines that did not answer."""
        changed = [
            (each.host, replace(each.lease, tags={**each.lease.tags, **tags}))
            for each in found
            if each.host is not None
        ]
        if not changed:
            return []
        action: Action = "extend" if all(each.is_tagged for each in found) else "take"
        with self._context.connect([host for host, _ in changed]) as shell:
            answers = shell.ask(action, [Job(host, lease) for host, lease in changed])
        by_host = {lease.host: lease for _, lease in changed}
        for answer in answers:
            if answer.is_known and not answer.trouble:
                self._context.put(by_host[answer.host.id])
        return [answer.host.id for answer in answers if not answer.is_known or answer.trouble]

    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Return nothing: the rates of own machines are in the inventory, so LIVE_PRICES is not declared."""
        return {}

    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """Return a note: own machines have no quotas; the launch itself finds out how many are free."""
        return Quotas(notes=("static: own machines have no quotas",))

    def availability(self, region: str) -> Availability:
        """Return nothing: all machines of the inventory may be used, so AVAILABILITY is not declared."""
        return Availability(region)

    def spot_prices(self, offers: Sequence[Offer], *, since: datetime) -> Mapping[Offer, tuple[PriceChange, ...]]:
        """Return nothing: own machines are not sold as spot, so SPOT_PRICES is not declared."""
        return {}

    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """Return nothing: nothing measures own machines, so METRICS is not declared."""
        return ()

    def check(self) -> tuple[Check, ...]:
        """Return how many machines the inventory has, and which do not answer."""
        return (finding("inventory", self._inventory), finding("login", self._login))

    def _inventory(self) -> str:
        hosts = self._context.hosts
        sites = sorted({host.site for host in hosts})
        return f"{counted(len(hosts), 'machine')} at {', '.join(sites)}: {self._context.settings.path}"

    def _login(self) -> str:
        answers = self._context.look(self._context.hosts)
        silent = [f"{name}: {answer.trouble}" for name, answer in answers.items() if not answer.is_known]
        if silent:
            text = f"static: {len(silent)} of {len(answers)} machines can't be used: {'; '.join(silent[:3])}"
            raise ProviderError(text, provider=NAME, hint="`multicompute hosts --check` shows all")
        return f"all {len(answers)} machines answer"

    def hosts(self, *, check: bool = False) -> tuple[HostStatus, ...]:
        """Return all machines of the inventory, with who uses them and what is wrong with them."""
        return statuses(self._context, check=check)

    def forget(self, host: str) -> None:
        """Delete what the ledger knows of a machine that is gone for good or was rebuilt."""
        forget(self._context, host)
