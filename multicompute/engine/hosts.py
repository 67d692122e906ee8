"""Lists the machines of the user's own, of all providers that have some."""

from collections.abc import Collection
from typing import cast

from multicompute.errors import SpecError
from multicompute.hosts import HostStatus
from multicompute.provider import HostProvider
from multicompute.session import Session


def list_hosts(session: Session, *, check: bool = False) -> list[HostStatus]:
    """Return the state of all machines, in the order of their inventories.

    Args:
        session: The ledger and the providers.
        check: Whether to log in to each machine and check it, as before a launch.

    Raises:
        SpecError: No provider has an inventory that can be used here; says why not.
        MulticomputeError: An inventory can't be read.
    """
    return [status for name in _usable(session) for status in _provider(session, name).hosts(check=check)]


def forget_host(session: Session, host: str) -> None:
    """Delete what the ledger knows of a machine that is gone for good or was rebuilt: lease, host key and state.

    Raises:
        SpecError: No provider has an inventory that can be used here.
        InvalidRequestError: There is no such machine.
    """
    for name in _usable(session):
        _provider(session, name).forget(host)


def require_hosts(session: Session, clouds: Collection[str]) -> None:
    """Check that a request for own machines alone can find any.

    Args:
        session: The providers.
        clouds: The providers that the request names.

    Raises:
        SpecError: All of them have own machines only, and no inventory can be used here; says why not.
    """
    if all(name in session.host_plugins for name in clouds):
        _usable(session)


def _provider(session: Session, name: str) -> HostProvider:
    # By the plug-in's own declaration.
    return cast("HostProvider", session.provider(name))


def _usable(session: Session) -> list[str]:
    usable = [name for name in session.host_plugins if not session.usable[name]]
    if not usable:
        reasons = "; ".join(f"{name}: {session.usable[name]}" for name in session.host_plugins)
        raise SpecError(f"there are no machines of your own: {reasons or 'no installed provider has any'}")
    return usable
