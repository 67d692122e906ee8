"""The endpoint that gives tokens to a managed identity, as App Service has it: azure-identity speaks plain HTTP with no other."""

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta

from multicompute.testing.local_server import Request, Response
from multicompute_azure.local.arm import TENANT
from multicompute_azure.local.routes import query_of

HEADER = "local"
_LIFE = timedelta(hours=24)
_VERSION = "2019-08-01"


class Tokens:
    """Answers `GET /msi/token`."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    def __call__(self, request: Request) -> Response:
        query = query_of(request)
        if request.path.rstrip("/") != "/msi/token" or request.method != "GET":
            return _json(404, {"statusCode": 404, "message": "There is /msi/token only."})
        if request.headers.get("x-identity-header") != HEADER:
            return _json(401, {"statusCode": 401, "message": "The header X-IDENTITY-HEADER is missing or wrong."})
        if query.get("api-version") != _VERSION or not query.get("resource"):
            return _json(
                400, {"statusCode": 400, "message": f"api-version must be {_VERSION}, and resource must be given."}
            )
        expires = int((self._now() + _LIFE).timestamp())
        claims = {"aud": query["resource"], "tid": TENANT, "oid": "local", "exp": expires}
        token = ".".join(_encoded(part) for part in ({"alg": "none", "typ": "JWT"}, claims, {}))
        document = {
            "access_token": token,
            "expires_on": str(expires),
            "resource": query["resource"],
            "token_type": "Bearer",
            "client_id": "local",
        }
        return _json(200, document)


def _encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def _json(status: int, document: object) -> Response:
    return Response(status, json.dumps(document).encode())
