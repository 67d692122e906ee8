"""Stands for the SDK that a vendor ships: Fourth's HTTP API with Fourth's own words and errors. It knows nothing of multicompute."""

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

MOST_IDS = 100
"""So many ids one call takes."""


class ApiError(Exception):
    """The API refused. A code of the form "http_502" stands for an answer that was not the API's own."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


class ConnectionLost(Exception):
    """No answer came; whether the request was carried out is not known."""


@dataclass(frozen=True)
class Server:
    """A server. `status` goes creating, running, deleting, and ends as deleted, preempted, expired or failed; `code` and `message` say why."""

    id: str
    region: str
    zone: str
    type: str
    status: str
    labels: Mapping[str, str]
    private_ip: str | None = None
    public_ip: str | None = None
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Firewall:
    """A firewall; it can't be deleted while a server is behind it."""

    id: str
    name: str
    region: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Account:
    """Who asks, and what they may do."""

    project: str
    rights: Sequence[str]


class Client:
    """Fourth's API. Safe to use from several threads; it retries nothing.

    Labels in a listing are those that must all be there; None stands for any value.
    """

    def __init__(self, endpoint: str, key: str, timeout: float = 20.0) -> None:
        self._endpoint = urlsplit(endpoint)
        self._key = key
        self._timeout = timeout

    def create_servers(self, request_id: str, count: int, **fields: object) -> list[Server]:
        """Create all of `count` alike servers or none; a `request_id` that was used before gets what it made then."""
        answer = self._call("POST", "/v1/servers", body={"request_id": request_id, "count": count, **fields})
        return [Server(**item) for item in answer["servers"]]

    def list_servers(
        self, labels: Mapping[str, str | None], region: str | None, page: str = ""
    ) -> tuple[list[Server], str]:
        """One page of servers, and the next page's name; those that ended are shown for an hour more."""
        answer = self._call("GET", "/v1/servers?" + _query(labels, region, page))
        return [Server(**item) for item in answer["servers"]], answer["next_page"]

    def delete_servers(self, ids: Sequence[str]) -> None:
        """Begin to delete servers; an id that is not there is passed over."""
        self._call("POST", "/v1/servers/delete", body={"ids": list(ids)})

    def update_servers(self, ids: Sequence[str], labels: Mapping[str, str], delete_at: int | None) -> None:
        """Set labels, and when Fourth deletes the servers by itself (epoch seconds, None for never)."""
        self._call("PATCH", "/v1/servers", body={"ids": list(ids), "labels": dict(labels), "delete_at": delete_at})

    def create_firewall(self, name: str, region: str, labels: Mapping[str, str], allow: Sequence[str]) -> None:
        """Create a firewall; refused with already_exists where the region has one of that name."""
        body = {"name": name, "region": region, "labels": dict(labels), "allow": list(allow)}
        self._call("POST", "/v1/firewalls", body=body)

    def list_firewalls(
        self, labels: Mapping[str, str | None], region: str | None, page: str = ""
    ) -> tuple[list[Firewall], str]:
        """One page of firewalls, and the next page's name."""
        answer = self._call("GET", "/v1/firewalls?" + _query(labels, region, page))
        return [Firewall(**item) for item in answer["firewalls"]], answer["next_page"]

    def delete_firewall(self, firewall_id: str) -> None:
        """Delete a firewall; refused with in_use or not_found."""
        self._call("DELETE", f"/v1/firewalls/{firewall_id}")

    def account(self) -> Account:
        """Who the key belongs to."""
        return Account(**self._call("GET", "/v1/account"))

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        secure = self._endpoint.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._endpoint.netloc, timeout=self._timeout)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, body=json.dumps(body) if body is not None else None, headers=headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionLost(f"{method} {path.partition('?')[0]}: {error}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise _refusal(response.status, text, response.headers.get("Retry-After"))
        return json.loads(text)


def _query(labels: Mapping[str, str | None], region: str | None, page: str) -> str:
    pairs = [("label", name if value is None else f"{name}={value}") for name, value in labels.items()]
    return urlencode([*pairs, *([("region", region)] if region else []), *([("page", page)] if page else [])])


def _refusal(status: int, text: bytes, retry_after: str | None) -> ApiError:
    wait = float(retry_after) if retry_after else None
    try:
        said = json.loads(text)["error"]
        return ApiError(status, said["code"], said["message"], wait)
    except (ValueError, KeyError, TypeError):
        # A proxy on the way answers in words of its own.
        return ApiError(status, f"http_{status}", text[:200].decode(errors="replace"), wait)
