"""The token endpoint of a managed identity in App Service, the only one that azure-identity asks over plain HTTP."""

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta

from multicompute.testing.local.server import Request, Response, json_response
from multicompute_azure.local.arm import TENANT
from multicompute_azure.local.routes import query_of

HEADER = "local"
_LIFE = timedelta(hours=24)
_VERSION = "2019-08-01"


class Tokens:
    """The service that answers `GET /msi/token`."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Issue tokens that expire by the clock that `now` reads."""
        self._now = now

    def __call__(self, request: Request) -> Response:
        """Answer a request for a token."""
        query = query_of(request)
        if request.path.rstrip("/") != "/msi/token" or request.method != "GET":
            return json_response(404, {"statusCode": 404, "message": "The only path is /msi/token."})
        if request.headers.get("x-identity-header") != HEADER:
            return json_response(
                401, {"statusCode": 401, "message": "The header X-IDENTITY-HEADER is missing or wrong."}
            )
        if query.get("api-version") != _VERSION or not query.get("resource"):
            return json_response(
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
        return json_response(200, document)


def _encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
