"""The way in for other processes: faults, calls and what is alive, over HTTP beside the cloud's own API."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from multicompute.provider import Resource
from multicompute.testing.local_server import Request, Response

if TYPE_CHECKING:
    from multicompute.testing.faults import Faults

PREFIX = "/_local/"
_LOOPBACK = ("127.0.0.1", "localhost")
_DURATIONS = ("duration", "retry_after")
_KINDS = ("fail", "throttle", "drop", "lose_answer", "reset", "truncate", "hang", "delay")


class Admin:
    """Answers `GET /_local/alive`, `GET /_local/calls`, and `POST /_local/faults`, `clear` and the commands of the cloud.

    A fault is posted as {"kind": "fail", "operation": "RunInstances", "code": ..., ...}: the method of `Faults` and
    its arguments, durations in seconds.
    """

    def __init__(
        self, faults: "Faults", alive: Callable[[], list[Resource]], commands: Mapping[str, Callable[..., object]]
    ) -> None:
        self._faults = faults
        self._alive = alive
        self._commands = commands

    def __call__(self, request: Request) -> Response:
        # A web page that has its name resolve to 127.0.0.1 must not get in.
        if urlsplit("//" + request.headers.get("host", "")).hostname not in _LOOPBACK:
            return _json(403, {"error": "only by the name 127.0.0.1 or localhost"})
        name = request.path.removeprefix(PREFIX)
        try:
            if request.method == "GET":
                return self._get(name)
            return self._post(name, json.loads(request.body or b"{}"))
        except (KeyError, TypeError, ValueError) as error:
            return _json(400, {"error": f"{type(error).__name__}: {error}"})

    def _get(self, name: str) -> Response:
        if name == "alive":
            return _json(200, [{**asdict(resource), "tags": dict(resource.tags)} for resource in self._alive()])
        if name == "calls":
            calls = list(self._faults.calls)
            return _json(
                200,
                [{"operation": call.operation, "region": call.region, "fields": dict(call.fields)} for call in calls],
            )
        return _json(404, {"error": f"there is no {PREFIX}{name}; there are alive and calls"})

    def _post(self, name: str, values: dict[str, Any]) -> Response:
        if name == "faults":
            self._inject(values)
        elif name == "clear":
            self._faults.clear()
        elif name in self._commands:
            return _json(200, {"result": self._commands[name](**values)})
        else:
            known = ", ".join(["faults", "clear", *self._commands])
            return _json(404, {"error": f"there is no {PREFIX}{name}; there are {known}"})
        return _json(200, {})

    def _inject(self, values: dict[str, Any]) -> None:
        kind = values.pop("kind")
        if kind not in _KINDS:
            raise ValueError(f"kind {kind!r}: it is one of {', '.join(_KINDS)}")
        for name in _DURATIONS:
            if values.get(name) is not None:
                values[name] = timedelta(seconds=float(values[name]))
        getattr(self._faults, kind)(**values)


def _json(status: int, value: object) -> Response:
    return Response(status, json.dumps(value, default=str).encode())
