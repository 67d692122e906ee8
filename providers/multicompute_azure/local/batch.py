"""Resource Manager's endpoint for several requests in one, each with a status of its own."""

import json
from collections.abc import Callable
from urllib.parse import urlsplit

from multicompute.testing.local.server import Request, Response
from multicompute_azure.local.arm import ArmError, ArmResponse, Json
from multicompute_azure.local.routes import Call

# Azure answers larger batches with a long-running operation; the local Azure refuses them.
_REQUESTS = 20


class Batch:
    """The handler of `POST /batch`."""

    def __init__(self, app: Callable[[Request], Response | None]) -> None:
        """Answer each request of a batch by `app`."""
        self._app = app

    def __call__(self, call: Call) -> ArmResponse:
        """Answer a batch."""
        requests = call.document.get("requests")
        if not isinstance(requests, list) or not 0 < len(requests) <= _REQUESTS:
            raise ArmError("InvalidRequestContent", f"The batch must have 1 to {_REQUESTS} requests.")
        names = [request.get("name") if isinstance(request, dict) else None for request in requests]
        if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
            raise ArmError("InvalidRequestContent", "Each request of a batch must have a name, and no two the same.")
        return ArmResponse(200, {"responses": [self._one(call, request) for request in requests]})

    def _one(self, call: Call, request: Json) -> Json:
        parts = urlsplit(str(request.get("url") or ""))
        content = request.get("content")
        body = b"" if content is None else json.dumps(content).encode()
        inner = Request(
            str(request.get("httpMethod") or "GET"), parts.path, parts.query, dict(call.request.headers), body
        )
        response = self._app(inner) or Response(502)
        found = json.loads(response.body) if response.body else None
        return {
            "name": request["name"],
            "httpStatusCode": response.status,
            "headers": dict(response.headers),
            "content": found,
            "contentLength": len(response.body),
        }
