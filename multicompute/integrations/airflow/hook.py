"""The connection: which ledger, configuration and clouds a task works with."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from multicompute.config import scoped_variables

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from multicompute import Cluster

_KEYS = ("state", "config", "default_ttl")


class MulticomputeHook(BaseHook):
    """Applies a connection of the type `multicompute` to what is done inside `configured()`.

    Its fields (all may be empty): `state`, the ledger's URL; `config`, a configuration file; `default_ttl`; `clouds`, with
    commas between them; `dashboard`, the URL of a page about one cluster; and the password of the ledger's user. What is
    empty is as the environment has it. Where there is no connection of the default name, all of it is.

    Example:
        >>> with MulticomputeHook().configured():           # doctest: +SKIP
        ...     Cluster.get("nightly-train-0c8a3a5c1a1e").terminate()
    """

    conn_name_attr = "multicompute_conn_id"
    default_conn_name = "multicompute_default"
    conn_type = "multicompute"
    hook_name = "multicompute"

    def __init__(self, multicompute_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multicompute_conn_id = multicompute_conn_id
        self._fields: dict[str, str] | None = None

    @contextmanager
    def configured(self) -> Iterator["MulticomputeHook"]:
        """Let everything inside work with this connection; other threads and asyncio tasks see nothing of it."""
        with scoped_variables(self.variables()):
            yield self

    def fields(self) -> Mapping[str, str]:
        """The connection's fields that are not empty, with the password in the ledger's URL."""
        if self._fields is None:
            try:
                self._fields = _fields(self.get_connection(self.multicompute_conn_id))
            except AirflowNotFoundException:
                self._fields = self._without()
        return self._fields

    async def load(self) -> "MulticomputeHook":
        """Read the connection from code that runs in an event loop."""
        try:
            self._fields = _fields(await self.aget_connection(self.multicompute_conn_id))
        except AirflowNotFoundException:
            self._fields = self._without()
        return self

    def variables(self) -> dict[str, str]:
        """The variables that configure multicompute, and child processes, as the connection says."""
        return {f"MULTICOMPUTE_{key.upper()}": self.fields()[key] for key in _KEYS if key in self.fields()}

    @property
    def clouds(self) -> list[str] | None:
        """The clouds to which requests are limited that name none, None for no limit."""
        return [cloud.strip() for cloud in self.fields().get("clouds", "").split(",") if cloud.strip()] or None

    def page_of(self, cluster: "Cluster") -> str:
        """The URL of the cluster's page on the dashboard, "" where the connection names no dashboard."""
        known = {"{name}": cluster.name, "{id}": cluster.id, "{provider}": cluster.provider, "{region}": cluster.region}
        page = self.fields().get("dashboard", "")
        for placeholder, value in known.items():
            page = page.replace(placeholder, quote(value or "", safe=""))
        return page

    def get_conn(self) -> type["Cluster"]:
        """`Cluster`, to be used inside `configured()`."""
        from multicompute import Cluster

        return Cluster

    def test_connection(self) -> tuple[bool, str]:
        """Whether the ledger can be opened; for the button of that name."""
        from multicompute import Cluster, errors

        try:
            with self.configured():
                return True, f"The ledger can be read; it has {len(Cluster.list())} live clusters"
        except errors.MulticomputeError as error:
            return False, str(error)

    def _without(self) -> dict[str, str]:
        if self.multicompute_conn_id != self.default_conn_name:
            raise AirflowNotFoundException(f"no connection is named {self.multicompute_conn_id!r}")
        return {}


def _fields(connection: "Connection") -> dict[str, str]:
    fields = {key: str(value) for key, value in connection.extra_dejson.items() if value not in (None, "")}
    if connection.password and "state" in fields:
        fields["state"] = _with_password(fields["state"], connection.password)
    return fields


def _with_password(state: str, password: str) -> str:
    url = urlsplit(state)
    user, at, place = url.netloc.rpartition("@")
    if not at or ":" in user:
        return state
    return urlunsplit(url._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))
