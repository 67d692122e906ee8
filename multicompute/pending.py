"""A request that is carried out when it is awaited."""

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar


class _Entered(Protocol):
    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


C = TypeVar("C", bound=_Entered)


class PendingCluster(Coroutine[Any, Any, C]):
    """A cluster that is requested when this is awaited or entered: `await request` or `async with request as cluster`.

    It is also a coroutine, for `asyncio.create_task` and `asyncio.gather`. Leaving the block terminates the cluster.

    Example:
        >>> async with Cluster.arequest(gpus=8, type="h100") as cluster:
        ...     print(cluster.head.private_ip)
    """

    def __init__(self, request: Coroutine[Any, Any, C]) -> None:
        """Wrap the coroutine that makes the request; users call `Cluster.arequest` instead."""
        self._request = request
        self._cluster: C | None = None

    def __await__(self) -> Generator[Any, Any, C]:
        """Request the cluster and return it."""
        return self._request.__await__()

    async def __aenter__(self) -> C:
        """Request the cluster and enter it."""
        self._cluster = await self._request
        return await self._cluster.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Terminate the cluster."""
        assert self._cluster is not None
        await self._cluster.__aexit__(kind, error, trace)

    def send(self, value: Any) -> Any:
        """Continue the request, as the event loop does."""
        return self._request.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error in the request, as the event loop does to cancel it."""
        return self._request.throw(*error)

    def close(self) -> None:
        """Give the request up before it has begun."""
        self._request.close()
