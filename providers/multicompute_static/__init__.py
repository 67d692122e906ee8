"""Machines that the user owns, leased to one cluster at a time and reached over SSH."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from multicompute.provider import Settings, TagLimits
from multicompute.provider_kit.plugin import Plugin

if TYPE_CHECKING:
    from multicompute.hosts import OwnOffers
    from multicompute.provider import HostPlugin


@dataclass(kw_only=True)
class _StaticPlugin(Plugin):
    """The plug-in object; a `multicompute.provider.HostPlugin`."""

    has_hosts: bool = True

    def own_offers(self, settings: Settings, *, today: date) -> "OwnOffers | None":
        """Return an offer for each type of machine at each site of the inventory; None if there is no inventory."""
        from multicompute_static._offers import own_offers

        return own_offers(settings, today=today)


plugin: "HostPlugin" = _StaticPlugin(
    name="static",
    extra="ssh",
    modules=("asyncssh",),
    tables=None,
    # Tags are a line of JSON in a file on the machine, which has no limits of its own.
    tag_limits=TagLimits(count=50, key_length=128, value_length=256),
    billing_minimum=timedelta(0),
    settings="multicompute_static._settings:StaticSettings",
    provider="multicompute_static._provider:StaticProvider",
    sign_in="write your machines into the inventory; the how-to on own machines shows one",
)
