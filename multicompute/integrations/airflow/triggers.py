"""Waits for a cluster in the triggerer, where waiting takes up no worker."""

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
    """Brings up a cluster that was requested with `wait=False`; fires when it is READY, or torn down since it can't be.

    All that it knows is in its arguments and in the ledger, so a triggerer that is restarted, or another one, goes on with the
    same cluster until the same moment. When the triggerer stops the cluster is left as it is; when somebody clears the task or
    marks it, the cluster is torn down.

    Args:
        name: the cluster's name.
        deadline: until when it has to be READY, ISO 8601 with a zone.
        multicompute_conn_id: the connection that its request was made with.
    """

    def __init__(self, *, name: str, deadline: str, multicompute_conn_id: str) -> None:
        super().__init__()
        self.name = name
        self.deadline = deadline
        self.multicompute_conn_id = multicompute_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Where this class is, and the arguments with which any triggerer makes it anew."""
        arguments = {"name": self.name, "deadline": self.deadline, "multicompute_conn_id": self.multicompute_conn_id}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire once: `{"name": ..., "error": ""}`, or with the words of what went wrong."""
        yield TriggerEvent({"name": self.name, "error": await self._come_up()})

    async def on_kill(self) -> None:
        """Tear the cluster down: somebody has cleared the task or marked it."""
        from multicompute import Cluster

        with scoped_variables((await self._hook()).variables()):
            cluster = await asyncio.to_thread(Cluster.get, self.name)
            await cluster.aterminate()

    async def _come_up(self) -> str:
        from multicompute import Cluster, errors

        with scoped_variables((await self._hook()).variables()):
            try:
                cluster = await asyncio.to_thread(Cluster.get, self.name)
                left = datetime.fromisoformat(self.deadline) - SystemClock().now()
                await cluster.await_(timeout=max(left, _LEAST), on_stop="leave")
            except errors.MulticomputeError as error:
                return str(error)
        return ""

    async def _hook(self) -> MulticomputeHook:
        return await MulticomputeHook(self.multicompute_conn_id).load()
