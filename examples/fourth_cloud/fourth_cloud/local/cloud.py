"""The state of the local Fourth, how it changes in time, and what a test can do to it."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fourth_cloud.local.rules import Refusal, check, sold
from fourth_cloud.local.wire import Api
from multicompute.clock import Clock, SystemClock
from multicompute.provider import Resource
from multicompute.testing import Faults, LocalCloud
from multicompute.testing.local.chassis import Chassis
from multicompute.testing.local.fault_injection import FaultInjector

_SHOWN_AFTER_THE_END: Final = timedelta(hours=1)
_PAGE: Final = 100


@dataclass
class _Server:
    """A server; its status follows from the time."""

    id: str
    fields: Mapping[str, Any]
    labels: dict[str, str]
    number: int
    runs_from: datetime
    shown_from: datetime
    delete_at: datetime | None
    project: str = "local"
    ends_at: datetime | None = None
    end: tuple[str, str, str] = ("deleted", "", "")
    """The last status, with code and message."""

    def ended_at(self) -> datetime | None:
        return min((at for at in (self.ends_at, self.delete_at) if at is not None), default=None)

    def exists(self, now: datetime) -> bool:
        ended = self.ended_at()
        return ended is None or now < ended

    def is_shown(self, now: datetime) -> bool:
        ended = self.ended_at()
        return self.shown_from <= now and (ended is None or now < ended + _SHOWN_AFTER_THE_END)

    def answer(self, now: datetime) -> dict[str, Any]:
        """Return the server as the API describes it."""
        code = message = ""
        if not self.exists(now):
            expired = self.ends_at is None or (self.delete_at is not None and self.delete_at < self.ends_at)
            status, code, message = ("expired", "expired", "its delete_at has come") if expired else self.end
        elif self.ends_at is not None and self.end[0] == "deleted":
            status = "deleting"
        else:
            status = "running" if now >= self.runs_from else "creating"
        octets = f"{self.number // 250}.{self.number % 250 + 1}"
        has_address = status == "running"
        return {
            "id": self.id,
            "region": self.fields["region"],
            "zone": self.fields["zone"],
            "type": self.fields["type"],
            "status": status,
            "labels": self.labels,
            "request_id": self.fields.get("request_id", ""),
            "private_ip": f"10.4.{octets}" if has_address else None,
            "public_ip": f"198.18.{octets}" if has_address and self.fields["has_public_ip"] else None,
            "code": code,
            "message": message,
        }


@dataclass
class _Firewall:
    id: str
    name: str
    region: str
    labels: dict[str, str] = field(default_factory=dict)
    project: str = "local"

    def answer(self) -> dict[str, Any]:
        """Return the firewall as the API describes it."""
        return {"id": self.id, "name": self.name, "region": self.region, "labels": self.labels}


class FourthLocalCloud(LocalCloud):
    """Fourth on 127.0.0.1; see `multicompute.testing.LocalCloud`.

    Attributes:
        faults: The faults to inject, by operation: "CreateServers", "ListServers", "FindServers", "DeleteServers", "UpdateServers",
            "CreateFirewall", "ListFirewalls", "DeleteFirewall" and "GetAccount"; "Boot" makes a server fail after it was created.
        boot_delay, shutdown_delay: How long a server takes to be created, and to be deleted.
        lag: How long a new server is missing from listings.
    """

    name = "fourth"

    def __init__(self, *, clock: Clock | None = None) -> None:
        """Create a local cloud that is not started; everything in it takes time by `clock`, the machine's by default."""
        self.faults = Faults()
        self.boot_delay = timedelta(milliseconds=100)
        self.shutdown_delay = timedelta(milliseconds=50)
        self.lag = timedelta(0)
        self.clock: Clock = clock or SystemClock()
        self._chassis = Chassis("Fourth")
        self._lock = threading.RLock()
        self._sold = sold()
        self._servers: dict[str, _Server] = {}
        self._answered: dict[tuple[str, str], list[_Server]] = {}
        self._projects: dict[str, str] = {}
        self._firewalls: dict[str, _Firewall] = {}
        self._foreign: dict[str, object] = {}
        self._capacity: dict[tuple[str, str], int | None] = {}

    # --- for the caller and for tests ---------------------------------------------------------------------------------

    @property
    def endpoint_url(self) -> str:
        """The URL of the API."""
        return self._chassis.endpoint_url

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which any process reaches this cloud."""
        return self._chassis.environment({"FOURTH_ENDPOINT_URL": self.endpoint_url, "FOURTH_API_KEY": "local"})

    def start(self) -> None:
        """Start the server."""
        self._chassis.start({"/": Api(FaultInjector(self.faults, self.clock), self._answer)})

    def stop(self) -> None:
        """Stop the server."""
        self._chassis.stop()

    def alive(self) -> Sequence[Resource]:
        """Return everything of any owner that exists, listed or not."""
        with self._lock:
            now = self.clock.now()
            servers = [
                Resource(self.name, "server", each.id, each.fields["region"], billable=True, tags=dict(each.labels))
                for each in self._servers.values()
                if each.exists(now)
            ]
            firewalls = [
                Resource(self.name, "firewall", each.id, each.region, billable=False, tags=dict(each.labels))
                for each in self._firewalls.values()
            ]
            return servers + firewalls

    def running_ids(self) -> list[str]:
        """Return the ids of the servers that run, in the order of their creation."""
        with self._lock:
            now = self.clock.now()
            return [each.id for each in self._servers.values() if each.answer(now)["status"] == "running"]

    def set_capacity(self, instance_type: str, place: str, nodes: int | None) -> None:
        """Set how many servers of a type a zone can have; None for no limit, which is the default."""
        with self._lock:
            self._capacity[instance_type, place] = nodes

    def preempt(self, node_id: str) -> None:
        """Preempt a spot server."""
        with self._lock:
            server = self._servers[node_id]
            server.ends_at, server.end = self.clock.now(), ("preempted", "preempted", "the capacity is needed")

    def remove_tags(self, node_id: str) -> None:
        """Remove all labels of a server."""
        with self._lock:
            self._servers[node_id].labels.clear()

    def add_account(self, account: str) -> Mapping[str, str]:
        """Add a project without resources, and return the variables with which a process uses it."""
        with self._lock:
            self._projects[f"key-of-{account}"] = account
        return {**self.environment, "FOURTH_API_KEY": f"key-of-{account}"}

    def seed_foreign(self) -> None:
        """Create resources of another team, some with labels like ours, none with our id."""
        with self._lock:
            fields = {"region": "north-1", "zone": "north-1a", "type": "l4x1", "has_public_ip": False}
            for labels in ({}, {"team": "nlp"}, {"multicompute-cluster": "first"}):
                server = self._make(fields, labels, None, self.clock.now())
                self._foreign[server.id] = server
            firewall = self._add_firewall("multicompute-of-others", "north-1", {"team": "nlp"})
            self._foreign[firewall.id] = firewall

    def foreign_intact(self) -> bool:
        """Return whether all foreign resources are unchanged."""
        with self._lock:
            there = {resource.id for resource in self.alive()}
            return self._foreign.keys() <= there and not any(
                self._servers[name].ends_at for name in self._foreign if name in self._servers
            )

    # --- the API ------------------------------------------------------------------------------------------------------

    def _answer(self, operation: str, body: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Carry out a call in the project of a key; `body` has the query or the JSON document.

        Raises:
            Refusal: The API refuses the call.
        """
        check(operation, body)
        with self._lock:
            now, project = self.clock.now(), self._projects.get(key, "local")
            shown = [each for each in self._servers.values() if each.project == project and each.is_shown(now)]
            match operation:
                case "CreateServers":
                    return {"servers": [each.answer(now) for each in self._create_servers(body, now, project)]}
                case "ListServers":
                    return _page("servers", [each.answer(now) for each in shown if _matches(each, body)], body)
                case "FindServers":
                    return {"servers": [each.answer(now) for each in shown if _is_named(each, body)]}
                case "ListFirewalls":
                    walls = [each for each in self._firewalls.values() if each.project == project]
                    return _page("firewalls", [each.answer() for each in walls if _matches(each, body)], body)
                case "DeleteServers" | "UpdateServers":
                    return self._change_servers(operation, body, now)
                case "CreateFirewall":
                    return {"id": self._create_firewall(body, project).id}
                case "DeleteFirewall":
                    return self._delete_firewall(str(body["id"]), now)
                case _:
                    return {"project": project, "rights": ["servers:read", "servers:write"]}

    def _create_servers(self, body: Mapping[str, Any], now: datetime, project: str) -> list[_Server]:
        request = (project, body["request_id"])
        if request in self._answered:
            return self._answered[request]
        kind, zone, count = body["type"], body["zone"], body["count"]
        if count < 1 or not zone.startswith(body["region"]):
            raise Refusal("invalid_request", f"CreateServers: {count} servers in {zone} of {body['region']}")
        if not any(
            body["firewall"] == wall.name and body["region"] == wall.region for wall in self._firewalls.values()
        ):
            raise Refusal("invalid_request", f"CreateServers: no firewall {body['firewall']} in {body['region']}")
        if (kind, zone, body["market"]) not in self._sold:
            raise Refusal("not_sold_here", f"{kind} is not sold {body['market']} in {zone}")
        same = [each for each in self._servers.values() if (each.fields["type"], each.fields["zone"]) == (kind, zone)]
        capacity = self._capacity.get((kind, zone))
        left = capacity - sum(each.exists(now) for each in same) if capacity is not None else count
        if left < count:
            raise Refusal("out_of_stock", f"{zone} has {max(left, 0)} of the {count} {kind} requested")
        made = [self._make(body, body["labels"], body["delete_at"], now) for _ in range(count)]
        for server in made:
            server.project = project
        self._answered[request] = made
        return made

    def _make(
        self, fields: Mapping[str, Any], labels: Mapping[str, str], delete_at: int | None, now: datetime
    ) -> _Server:
        number = len(self._servers) + 1
        server = _Server(
            id=f"srv-{number:06}",
            fields=fields,
            labels=dict(labels),
            number=number,
            runs_from=now + self.boot_delay,
            shown_from=now + self.lag,
            delete_at=_instant(delete_at),
        )
        # Checked first, because a fault of any operation ("*") is for calls, and booting is not a call.
        if any(fault.operation == "Boot" for fault in self.faults.waiting()):
            place = {name: fields[name] for name in ("region", "zone", "type")}
            if (fault := self.faults.take("Boot", place)) is not None:
                server.ends_at, server.end = server.runs_from, ("failed", fault.code, fault.message or fault.code)
        self._servers[server.id] = server
        return server

    def _change_servers(self, operation: str, body: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        for server_id in body["ids"]:
            server = self._servers.get(server_id)
            if server is None or not server.exists(now):
                continue
            if operation == "UpdateServers":
                server.labels |= body["labels"]
                server.delete_at = _instant(body["delete_at"])
            elif server.ends_at is None or server.end[0] != "deleted":
                server.ends_at, server.end = now + self.shutdown_delay, ("deleted", "", "")
        return {}

    def _create_firewall(self, body: Mapping[str, Any], project: str) -> _Firewall:
        if any((each.name, each.region) == (body["name"], body["region"]) for each in self._firewalls.values()):
            raise Refusal("already_exists", f"{body['region']} has a firewall {body['name']}")
        firewall = self._add_firewall(body["name"], body["region"], body["labels"])
        firewall.project = project
        return firewall

    def _add_firewall(self, name: str, region: str, labels: Mapping[str, str]) -> _Firewall:
        firewall = _Firewall(f"fw-{region}-{name}", name, region, dict(labels))
        self._firewalls[firewall.id] = firewall
        return firewall

    def _delete_firewall(self, firewall_id: str, now: datetime) -> dict[str, Any]:
        firewall = self._firewalls.get(firewall_id)
        if firewall is None:
            raise Refusal("not_found", f"no firewall {firewall_id}")
        for server in self._servers.values():
            behind = server.fields.get("firewall") == firewall.name and server.fields["region"] == firewall.region
            if behind and server.exists(now):
                raise Refusal("in_use", f"{server.id} is behind {firewall.name}")
        del self._firewalls[firewall_id]
        return {}


def _matches(item: _Server | _Firewall, query: Mapping[str, Any]) -> bool:
    region = item.fields["region"] if isinstance(item, _Server) else item.region
    if query.get("region") not in (None, region):
        return False
    wanted = [label.partition("=") for label in query.get("label", ())]
    return all(name in item.labels and (not sign or item.labels[name] == value) for name, sign, value in wanted)


def _is_named(server: _Server, body: Mapping[str, Any]) -> bool:
    request = str(server.fields.get("request_id", ""))
    return server.id in body["ids"] or any(request.startswith(start) for start in body["requests"])


def _page(name: str, items: Sequence[dict[str, Any]], query: Mapping[str, Any]) -> dict[str, Any]:
    start = int(query.get("page") or 0)
    rest = start + _PAGE < len(items)
    return {name: items[start : start + _PAGE], "next_page": str(start + _PAGE) if rest else ""}


def _instant(epoch: int | None) -> datetime | None:
    return None if epoch is None else datetime.fromtimestamp(epoch, UTC)
