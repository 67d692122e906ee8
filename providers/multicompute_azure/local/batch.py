"""Resource Manager's endpoint for several requests in one, each answered with a status of its own."""

import json
from collections.abc import Callable
from urllib.parse import urlsplit

from multicompute.testing.local_server import Request, Response
from multicompute_azure.local.arm import Answer, ArmError, Json
from multicompute_azure.local.routes import Call

# Of more Azure makes a long-running operation; this one refuses them.
_REQUESTS = 20


class Batch:
    """Answers `POST /batch`.

    Args:
        ask: answers one request as if it had come by itself.
    """

    def __init__(self, ask: Callable[[Request], Response | None]) -> None:
        self._ask = ask

    def __call__(self, call: Call) -> Answer:
        requests = call.document.get("requests")
        if not isinstance(requests, list) or not 0 < len(requests) <= _REQUESTS:
            raise ArmError("InvalidRequestContent", f"The batch must have 1 to {_REQUESTS} requests.")
        names = [request.get("name") if isinstance(request, dict) else None for request in requests]
        if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
            raise ArmError("InvalidRequestContent", "Each request of a batch must have a name, and no two the same.")
        return Answer(200, {"responses": [self._one(call, request) for request in requests]})

    def _one(self, call: Call, request: Json) -> Json:
        parts = urlsplit(str(request.get("url") or ""))
        content = request.get("content")
        body = b"" if content is None else json.dumps(content).encode()
        inner = Request(
            str(request.get("httpMethod") or "GET"), parts.path, parts.query, dict(call.request.headers), body
        )
        answer = self._ask(inner) or Response(502)
        found = json.loads(answer.body) if answer.body else None
        return {
            "name": request["name"],
            "httpStatusCode": answer.status,
            "headers": dict(answer.headers),
            "content": found,
            "contentLength": len(answer.body),
        }
