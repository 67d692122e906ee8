"""HTTP through azure-core, which does not need credentials: connections, pipelines, and answers as plain JSON."""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from multicompute.provider_kit.call_log import note_request
from multicompute.provider_kit.endpoints import is_loopback
from multicompute.provider_kit.vendor_errors import Place, retryable
from multicompute_azure._errors import translate_errors

if TYPE_CHECKING:
    from azure.core.rest import HttpRequest

_CONNECT_SECONDS: Final = 10
_BLOCK_BYTES: Final = 1 << 16
# Longer than a listing of a thousand instances takes.
_READ_SECONDS: Final = 60
# One try per call. azure-core would repeat ten times after 408, 429 and 5xx, and repeat a PUT after a lost connection. The engine knows
# what is worth repeating, and repeats with the same token.
_TRIES: Final = {"retry_total": 0, "retry_connect": 0, "retry_read": 0, "retry_status": 0}


def host_of(url: str) -> tuple[str, str, int | None]:
    """Return the scheme, the host and the port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def connections(endpoint: str) -> Any:
    """Return a pool of connections that several threads can use."""
    from azure.core.pipeline.transport import RequestsTransport

    return RequestsTransport(
        connection_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        connection_data_block_size=_BLOCK_BYTES,
        # A local cloud is not behind the user's proxy.
        use_env_settings=not is_loopback(endpoint),
    )


def pipeline(transport: Any, signing: list[Any]) -> Any:
    """Return the pipeline of requests that the policies in `signing` sign.

    It is the SDK's own without two policies: the one that registers a missing resource provider, which changes the subscription without
    being asked and sleeps until it has finished; and the log of requests, which `translate_errors` keeps.
    """
    from azure.core.pipeline import Pipeline, policies

    steps = [
        policies.RequestIdPolicy(),
        policies.UserAgentPolicy("multicompute"),
        policies.ProxyPolicy(),
        policies.ContentDecodePolicy(),
        policies.RedirectPolicy(),
        policies.RetryPolicy(**_TRIES),
        policies.CustomHookPolicy(raw_response_hook=_note_request),
        *signing,
        policies.SensitiveHeaderCleanupPolicy(),
    ]
    return Pipeline(transport, steps)


def answer(client: Callable[[], Any], request: "HttpRequest", operation: str, place: Place) -> dict[str, Any]:
    """Return the document that a client of azure-core gets for a request; a bare list becomes the value of "value".

    Args:
        client: Returns the client; making it may fail as the call may.
        request: The request.
        operation: The name of the call, for messages.
        place: The place that the call is about.

    Raises:
        MulticomputeError: The call failed, or was refused, or its answer is not JSON.
    """
    with translate_errors(operation, place):
        body = _send(client(), request)
    try:
        found = json.loads(body)
    except ValueError as error:
        raise retryable(f"{operation}: the answer is not JSON", code="BadAnswer", place=place) from error
    if isinstance(found, list):
        # The listings of marketplace images have no envelope.
        return {"value": found}
    return found if isinstance(found, dict) else {}


def _send(client: Any, request: "HttpRequest") -> bytes:
    from azure.core.exceptions import HttpResponseError

    # As a stream, because the pipeline would otherwise parse the document for the SDK's models first.
    request.headers["Accept"] = "application/json"
    response = client.send_request(request, stream=True)
    body: bytes = response.read()
    if response.status_code != HTTPStatus.OK:
        raise HttpResponseError(response=response)
    return body


def _note_request(response: Any) -> None:
    note_request(response.http_response.headers.get("x-ms-request-id"))
