"""A request that is carried out when it is awaited."""

from collections.abc import Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, TypeVar, cast

C = TypeVar("C")


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
        self._entered: AbstractAsyncContextManager[C] | None = None

    def __await__(self) -> Generator[Any, Any, C]:
        """Request the cluster and return it."""
        return self._request.__await__()

    async def __aenter__(self) -> C:
        """Request the cluster and enter it."""
        # A cluster is one; the classes that request it do not say so.
        self._entered = cast("AbstractAsyncContextManager[C]", await self._request)
        return await self._entered.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Terminate the cluster."""
        assert self._entered is not None
        await self._entered.__aexit__(kind, error, trace)

    def send(self, value: Any) -> Any:
        """Continue the request, as the event loop does."""
        return self._request.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error in the request, as the event loop does to cancel it."""
        return self._request.throw(*error)

    def close(self) -> None:
        """Give the request up before it has begun."""
        self._request.close()
