"""Renew credentials that the cloud no longer accepts: a rotated key, a new token, a profile that was changed."""

import functools
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from multicompute.errors import AuthError, MulticomputeError, TransientError

Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")


class Renewal:
    """Rebuilds a provider's session after an authentication error, once for all threads that saw the same one.

    Args:
        rebuild: Discards the session, so that the next call reads the credentials from their source again.
    """

    def __init__(self, rebuild: Callable[[], object]) -> None:
        """Keep how to rebuild the session."""
        self._rebuild = rebuild
        self._lock = threading.Lock()
        self._count = 0

    def run(self, call: Callable[[], Answer]) -> Answer:
        """Return what `call` returns; after an authentication error, rebuild the session and call once more.

        Raises:
            AuthError: The new credentials are rejected, too.
        """
        seen = self._count
        try:
            return call()
        except MulticomputeError as error:
            if not _is_rejection(error):
                raise
            with self._lock:
                # Another thread may have rebuilt it since this call began.
                if self._count == seen:
                    self._rebuild()
                    self._count += 1
        return call()


def _is_rejection(error: MulticomputeError) -> bool:
    """Return whether the credentials were rejected, perhaps those of a launch whose roll-back was rejected as well."""
    is_failed_roll_back = isinstance(error, TransientError) and isinstance(error.__cause__, AuthError)
    return isinstance(error, AuthError) or is_failed_roll_back


class Renewable(Protocol):
    """A provider that has a `Renewal`."""

    @property
    def renewal(self) -> Renewal:
        """The renewal of its credentials."""
        ...


Owner = TypeVar("Owner", bound=Renewable)


def renews_credentials(
    method: Callable[Concatenate[Owner, Arguments], Answer],
) -> Callable[Concatenate[Owner, Arguments], Answer]:
    """Repeat a method of `Provider` once with renewed credentials if the cloud rejects those that it has.

    Every method of the seam can be repeated, so the method is repeated as a unit.
    """

    @functools.wraps(method)
    def repeated(self: Owner, /, *args: Arguments.args, **options: Arguments.kwargs) -> Answer:
        return self.renewal.run(lambda: method(self, *args, **options))

    return repeated
