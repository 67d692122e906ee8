"""Stands for the vendor's SDK: a client of Fourth's HTTP API, with Fourth's own terms and errors. It does not know multicompute."""

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

MOST_IDS = 100
"""The most ids that one call takes."""


class ApiError(Exception):
    """The API refused a call. A code of the form "http_502" is that of an answer that does not come from the API."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        """Store the HTTP status, the code and the message, and the seconds that the API asks to wait."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


class ConnectionLost(Exception):
    """A call got no answer; whether it had an effect is not known."""


@dataclass(frozen=True)
class Server:
    """A server.

    Its `status` is creating, running, deleting, and finally deleted, preempted, expired or failed; `code` and `message` are the reason.
    `request_id` is that of the call that created it.
    """

    id: str
    region: str
    zone: str
    type: str
    status: str
    labels: Mapping[str, str]
    request_id: str = ""
    private_ip: str | None = None
    public_ip: str | None = None
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Firewall:
    """A firewall; it can't be deleted while a server uses it."""

    id: str
    name: str
    region: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Account:
    """The project of a key, and the permissions of the key."""

    project: str
    rights: Sequence[str]


class Client:
    """A client of Fourth's API, safe to use from several threads; it retries nothing.

    A listing returns what has all of the given labels; the value None matches any value.
    """

    def __init__(self, endpoint: str, key: str, timeout: float = 20.0) -> None:
        """Call `endpoint` with `key`, and wait at most `timeout` seconds for each answer."""
        self._endpoint = urlsplit(endpoint)
        self._key = key
        self._timeout = timeout

    def create_servers(self, request_id: str, count: int, **fields: object) -> list[Server]:
        """Create `count` equal servers or none; a `request_id` that was used before returns the servers of that call."""
        answer = self._call("POST", "/v1/servers", body={"request_id": request_id, "count": count, **fields})
        return [Server(**item) for item in answer["servers"]]

    def list_servers(
        self, labels: Mapping[str, str | None], region: str | None, page: str = ""
    ) -> tuple[list[Server], str]:
        """Return one page of servers and the name of the next page; servers that ended are listed for an hour more."""
        answer = self._call("GET", "/v1/servers?" + _query(labels, region, page))
        return [Server(**item) for item in answer["servers"]], answer["next_page"]

    def find_servers(self, ids: Sequence[str] = (), requests: Sequence[str] = ()) -> list[Server]:
        """Return the servers with these ids, and those whose `request_id` starts with one of `requests`; unknown ids are ignored."""
        answer = self._call("POST", "/v1/servers/find", body={"ids": list(ids), "requests": list(requests)})
        return [Server(**item) for item in answer["servers"]]

    def delete_servers(self, ids: Sequence[str]) -> None:
        """Start to delete servers; unknown ids are ignored."""
        self._call("POST", "/v1/servers/delete", body={"ids": list(ids)})

    def update_servers(self, ids: Sequence[str], labels: Mapping[str, str], delete_at: int | None) -> None:
        """Set labels, and when Fourth deletes the servers by itself (epoch seconds, None for never)."""
        self._call("PATCH", "/v1/servers", body={"ids": list(ids), "labels": dict(labels), "delete_at": delete_at})

    def create_firewall(self, name: str, region: str, labels: Mapping[str, str], allow: Sequence[str]) -> None:
        """Create a firewall; refused with already_exists if the region has one of this name."""
        body = {"name": name, "region": region, "labels": dict(labels), "allow": list(allow)}
        self._call("POST", "/v1/firewalls", body=body)

    def list_firewalls(
        self, labels: Mapping[str, str | None], region: str | None, page: str = ""
    ) -> tuple[list[Firewall], str]:
        """Return one page of firewalls and the name of the next page."""
        answer = self._call("GET", "/v1/firewalls?" + _query(labels, region, page))
        return [Firewall(**item) for item in answer["firewalls"]], answer["next_page"]

    def delete_firewall(self, firewall_id: str) -> None:
        """Delete a firewall; refused with in_use or not_found."""
        self._call("DELETE", f"/v1/firewalls/{firewall_id}")

    def account(self) -> Account:
        """Return the project and the permissions of the key."""
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
        error = json.loads(text)["error"]
        return ApiError(status, error["code"], error["message"], wait)
    except (ValueError, KeyError, TypeError):
        # A proxy on the way answers in a format of its own.
        return ApiError(status, f"http_{status}", text[:200].decode(errors="replace"), wait)
