"""Decides which clouds must be asked for a complete answer, and records which were: what was not asked is not reported as clean."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from multicompute.session import Session


@dataclass(slots=True)
class Coverage:
    """The clouds that were asked, and those that should have been asked and could not be.

    Attributes:
        asked: The clouds, or the regions, that answered.
        not_asked: Cloud, region or cluster -> why nothing is known about it now.
        unused: Clouds that are not set up here and in which the ledger has nothing live. They were not asked either.
    """

    asked: list[str] = field(default_factory=list)
    not_asked: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Return whether all clouds that should be asked have answered."""
        return not self.not_asked

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form that the command line prints."""
        return {"asked": sorted(self.asked), "not_asked": self.not_asked, "unused": self.unused}

    def problems(self) -> list[str]:
        """Return a line for each that could not be asked."""
        return [f"{where}: {why}" for where, why in self.not_asked.items()]


def clouds_in_use(session: Session) -> Mapping[str, str]:
    """Return the clouds that must be asked for a complete answer, each with why it can't be, "" if it can.

    These are the clouds that can be used here, those that the configuration names, and those in which the ledger has something
    live. If there is none, they are all clouds: nothing is known then. The setting `clouds` leaves out the others, except for those
    in which something lives.
    """
    allowed = session.clouds or tuple(session.plugins)
    launching = [name for name, plugin in session.plugins.items() if plugin.can_launch and name in allowed]
    used = {name for name in launching if not session.usable[name] or name in session.config.providers}
    used |= set(clouds_of_ledger(session))
    ordered = [*(name for name in session.plugins if name in used), *sorted(used - {*session.plugins})]
    return {name: session.usable.get(name, "not installed") for name in ordered or launching}


def clouds_of_ledger(session: Session) -> Mapping[str, tuple[str, ...]]:
    """Return the clouds in which a live cluster has or may have resources, each with the names of these clusters."""
    found: dict[str, tuple[str, ...]] = {}
    for record in session.ledger.clusters() if session.has_ledger else ():
        attempts = session.ledger.attempts(record.id)
        for name in dict.fromkeys(attempt.provider for attempt in attempts if attempt.is_open):
            found[name] = (*found.get(name, ()), record.name)
    return found
