"""The admin interface of a local cloud: faults, calls, conditions and what exists, over HTTP for other processes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from multicompute.testing.faults import FaultKind
from multicompute.testing.local.cloud import LocalCloud
from multicompute.testing.local.server import Request, Response, json_response

PREFIX = "/_local/"
_LOOPBACK = ("127.0.0.1", "localhost")
_DURATIONS = ("duration", "retry_after")


class Admin:
    """The HTTP service below `/_local/`.

    `GET` answers `alive` and `calls`. `POST` takes `faults`, `clear` and the commands of `_commands`, each with the arguments of
    the method as a JSON object. A fault is `{"kind": "fail", "operation": "RunInstances", "code": ..., ...}`: a method of
    `Faults` and its arguments, with durations in seconds.
    """

    def __init__(self, cloud: LocalCloud, commands: Mapping[str, Callable[..., object]] | None = None) -> None:
        """Serve a cloud; `commands` are those that only this cloud has."""
        self._cloud = cloud
        self._commands = {**_commands(cloud), **(commands or {})}

    def __call__(self, request: Request) -> Response:
        """Answer a request."""
        # Refuses a web page whose host name resolves to 127.0.0.1 (DNS rebinding).
        if urlsplit("//" + request.headers.get("host", "")).hostname not in _LOOPBACK:
            return json_response(403, {"error": "the host must be 127.0.0.1 or localhost"})
        name = request.path.removeprefix(PREFIX)
        try:
            if request.method == "GET":
                return self._get(name)
            return self._post(name, json.loads(request.body or b"{}"))
        except (KeyError, TypeError, ValueError, NotImplementedError) as error:
            return json_response(400, {"error": f"{type(error).__name__}: {error}"})

    def _get(self, name: str) -> Response:
        if name == "alive":
            return json_response(
                200, [{**asdict(resource), "tags": dict(resource.tags)} for resource in self._cloud.alive()]
            )
        if name == "calls":
            calls = list(self._cloud.faults.calls)
            return json_response(
                200,
                [{"operation": call.operation, "region": call.region, "fields": dict(call.fields)} for call in calls],
            )
        return json_response(404, {"error": f"{PREFIX}{name}: not found; GET knows alive and calls"})

    def _post(self, name: str, values: dict[str, Any]) -> Response:
        if name == "faults":
            self._inject(values)
        elif name == "clear":
            self._cloud.faults.clear()
        elif name in self._commands:
            return json_response(200, {"result": self._commands[name](**values)})
        else:
            known = ", ".join(["faults", "clear", *self._commands])
            return json_response(404, {"error": f"{PREFIX}{name}: not found; POST knows {known}"})
        return json_response(200, {})

    def _inject(self, values: dict[str, Any]) -> None:
        kind = values.pop("kind")
        if kind not in list(FaultKind):
            raise ValueError(f"kind={kind!r}: must be one of {', '.join(FaultKind)}")
        for name in _DURATIONS:
            if values.get(name) is not None:
                values[name] = timedelta(seconds=float(values[name]))
        getattr(self._cloud.faults, kind)(**values)


def _commands(cloud: LocalCloud) -> Mapping[str, Callable[..., object]]:
    """Return the commands of every cloud. A new action of an outside actor is one more line here."""
    return {
        "capacity": cloud.set_capacity,
        "quota": cloud.set_quota,
        "reserve": cloud.add_reservation,
        "delays": cloud.set_delays,
        "preempt": cloud.preempt,
        "impair": cloud.impair,
        "measure": cloud.measure,
    }
