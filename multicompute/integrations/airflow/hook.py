"""The Airflow connection: the ledger, the configuration and the clouds of a task."""

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
    """A hook that applies a connection of type `multicompute` to the code inside `configured()`.

    The fields of the connection, all optional: `state`, the ledger's URL; `config`, a configuration file; `default_ttl`;
    `clouds`, separated by commas; `dashboard`, the URL of a page about one cluster; and the password of the ledger's user.
    The environment applies to empty fields, and to all of them if the default connection does not exist.

    Example:
        >>> with MulticomputeHook().configured():           # doctest: +SKIP
        ...     Cluster.get("nightly-train-0c8a3a5c1a1e").terminate()
    """

    conn_name_attr = "multicompute_conn_id"
    default_conn_name = "multicompute_default"
    conn_type = "multicompute"
    hook_name = "multicompute"

    def __init__(self, multicompute_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        """Keep the id of the connection, which is read when it is first needed."""
        super().__init__(**kwargs)
        self.multicompute_conn_id = multicompute_conn_id
        self._fields: dict[str, str] | None = None

    @contextmanager
    def configured(self) -> Iterator["MulticomputeHook"]:
        """Apply the connection to the code inside the block. Other threads and asyncio tasks are not affected."""
        with scoped_variables(self.variables()):
            yield self

    def fields(self) -> Mapping[str, str]:
        """Return the non-empty fields of the connection, with the password inserted into the ledger's URL."""
        if self._fields is None:
            try:
                self._fields = _fields(self.get_connection(self.multicompute_conn_id))
            except AirflowNotFoundException:
                self._fields = self._no_connection()
        return self._fields

    async def load(self) -> "MulticomputeHook":
        """Read the connection; for code that runs in an event loop."""
        try:
            self._fields = _fields(await self.aget_connection(self.multicompute_conn_id))
        except AirflowNotFoundException:
            self._fields = self._no_connection()
        return self

    def variables(self) -> dict[str, str]:
        """Return the environment variables that apply the connection to multicompute, also in child processes."""
        return {f"MULTICOMPUTE_{key.upper()}": self.fields()[key] for key in _KEYS if key in self.fields()}

    @property
    def clouds(self) -> list[str] | None:
        """The clouds for requests that name none; None for all."""
        return [cloud.strip() for cloud in self.fields().get("clouds", "").split(",") if cloud.strip()] or None

    def page_of(self, cluster: "Cluster") -> str:
        """Return the URL of the cluster's page on the dashboard; "" if the connection has no dashboard."""
        known = {"{name}": cluster.name, "{id}": cluster.id, "{provider}": cluster.provider, "{region}": cluster.region}
        page = self.fields().get("dashboard", "")
        for placeholder, value in known.items():
            page = page.replace(placeholder, quote(value or "", safe=""))
        return page

    def get_conn(self) -> type["Cluster"]:
        """Return the class `Cluster`, for use inside `configured()`."""
        from multicompute import Cluster

        return Cluster

    def test_connection(self) -> tuple[bool, str]:
        """Check that the ledger can be read; for the "Test" button of Airflow."""
        from multicompute import Cluster, errors

        try:
            with self.configured():
                return True, f"The ledger can be read; it has {len(Cluster.list())} live clusters"
        except errors.MulticomputeError as error:
            return False, str(error)

    def _no_connection(self) -> dict[str, str]:
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
    user, at, host = url.netloc.rpartition("@")
    if not at or ":" in user:
        return state
    return urlunsplit(url._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))
