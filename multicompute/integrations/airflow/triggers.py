"""A trigger that waits for a cluster in the triggerer, where waiting occupies no worker."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from multicompute.clock import SystemClock
from multicompute.config import scoped_variables
from multicompute.integrations.airflow.hook import MulticomputeHook

_LEAST = timedelta(seconds=1)


class ClusterReadyTrigger(BaseTrigger):
    """A trigger that brings up a cluster requested with `wait=False`, and fires when it is READY or torn down.

    Its state consists of its arguments and the ledger, so a restarted triggerer, or another one, continues with the same
    cluster and deadline. If the triggerer stops, the cluster is not changed. If a user clears or marks the task, the cluster
    is torn down.

    Args:
        name: The name of the cluster.
        deadline: When the cluster must be READY, in ISO 8601 with a time zone.
        multicompute_conn_id: The connection of the request.
    """

    def __init__(self, *, name: str, deadline: str, multicompute_conn_id: str) -> None:
        """Create a trigger from the values that `serialize` returns."""
        super().__init__()
        self.name = name
        self.deadline = deadline
        self.multicompute_conn_id = multicompute_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of this class and the arguments to create the trigger again."""
        arguments = {"name": self.name, "deadline": self.deadline, "multicompute_conn_id": self.multicompute_conn_id}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire once with `{"name": ..., "error": ""}`, or with the message of the error."""
        yield TriggerEvent({"name": self.name, "error": await self._bring_up()})

    async def on_kill(self) -> None:
        """Tear down the cluster, because a user has cleared or marked the task."""
        from multicompute import Cluster

        with scoped_variables((await self._hook()).variables()):
            cluster = await asyncio.to_thread(Cluster.get, self.name)
            await cluster.aterminate()

    async def _bring_up(self) -> str:
        from multicompute import Cluster, errors

        with scoped_variables((await self._hook()).variables()):
            try:
                cluster = await asyncio.to_thread(Cluster.get, self.name)
                remaining = datetime.fromisoformat(self.deadline) - SystemClock().now()
                await cluster.await_(timeout=max(remaining, _LEAST), on_stop="leave")
            except errors.MulticomputeError as error:
                return str(error)
        return ""

    async def _hook(self) -> MulticomputeHook:
        return await MulticomputeHook(self.multicompute_conn_id).load()
