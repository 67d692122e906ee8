"""Calls to the Cloud Billing API, with an API key or the usual credentials."""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import google.oauth2.credentials
import requests

from multicompute.clock import Clock
from multicompute.errors import (
    AccessDeniedError,
    AuthError,
    MulticomputeError,
    ProviderError,
    ThrottledError,
    TransientError,
)
from multicompute.provider_kit.endpoints import is_loopback
from multicompute.provider_kit.vendor_errors import (
    Meaning,
    Place,
    VendorAnswer,
    error_of,
    meaning_of,
    retry_after,
    retryable,
)
from multicompute_gcp._errors import MEANINGS, translate_errors
from multicompute_gcp._session import Clients

Answer = TypeVar("Answer")

COMPUTE_SERVICE: Final = "6F81-5844-456A"
TPU_SERVICE: Final = "E000-3F24-B8AA"
_BILLING: Final = "https://cloudbilling.googleapis.com"
_PLACE: Final = Place("gcp")
# The largest page, and the default: https://cloud.google.com/billing/docs/reference/rest/v1/services.skus/list.
_PAGE: Final = 5000
_FIRST_WAIT: Final = timedelta(seconds=1)
_LOCAL_WAIT: Final = timedelta(milliseconds=50)
_LONGEST_WAIT: Final = 30.0

# https://cloud.google.com/apis/design/errors and google/api/error_reason.proto: the reasons in ErrorInfo.
_BAD_KEY: Final = Meaning(AuthError, "account")
_DENIED: Final = Meaning(AccessDeniedError, "account")
_ENABLE: Final = (
    "`gcloud services enable cloudbilling.googleapis.com` in the project of the API key or of the credentials"
)
_REASONS: Final = {
    "SERVICE_DISABLED": (_DENIED, _ENABLE),
    "API_KEY_INVALID": (
        _BAD_KEY,
        "set [providers.gcp] api_key to a valid key: https://console.cloud.google.com/apis/credentials",
    ),
    "API_KEY_SERVICE_BLOCKED": (_DENIED, "allow the Cloud Billing API in the restrictions of the API key"),
    "API_KEY_HTTP_REFERRER_BLOCKED": (_DENIED, "remove the restriction to websites from the API key"),
    "API_KEY_IP_ADDRESS_BLOCKED": (_DENIED, "allow this machine's address in the restrictions of the API key"),
}
_UNNAMED: Final = (
    (re.compile(r"API key (not valid|expired|not found)", re.IGNORECASE), "API_KEY_INVALID"),
    (re.compile(r"has not been used in project|it is disabled", re.IGNORECASE), "SERVICE_DISABLED"),
)
SIGN_IN: Final = "set [providers.gcp] api_key, or sign in: `gcloud auth application-default login`"


@dataclass(frozen=True, slots=True)
class Patience:
    """The limits on waiting for the API.

    Attributes:
        tries: How many times a call is made that is throttled or gets no answer.
        timeout: Seconds to connect, and to wait for data.
        longest: After this time no further page is asked for; None for no limit.
    """

    tries: int = 5
    timeout: tuple[float, float] = (10.0, 60.0)
    longest: timedelta | None = None


class Billing:
    """The Cloud Billing API with one set of settings.

    Attributes:
        calls: Operation -> the number of requests, repeated ones included.
    """

    def __init__(self, clients: Clients, clock: Clock, patience: Patience = Patience()) -> None:
        self.calls: Counter[str] = Counter()
        self._patience = patience
        self._clients = clients
        self._clock = clock
        self._lock = threading.Lock()
        self._keyed: requests.Session | None = None
        settings = clients.settings
        self._key = settings.api_key.get_secret_value() if settings.api_key else ""
        self._endpoint = settings.billing_endpoint or _BILLING

    def pages(self, service: str, hook: Callable[[dict[str, Any]], Any]) -> Iterator[list[Any]]:
        """Yield the pages of the SKUs of a service, to the last.

        Args:
            service: The id of the service.
            hook: Replaces each object of the JSON document as soon as it is read, the inner ones first.

        Raises:
            MulticomputeError: A page could not be read, or the list takes longer than the patience allows.
        """
        token, seen, began = "", set[str](), self._clock.now()
        while True:
            parameters: dict[str, str | int] = {"pageSize": _PAGE} | ({"pageToken": token} if token else {})
            page = self._get(f"v1/services/{service}/skus", "services.skus.list", parameters, hook)
            yield page.get("skus") or []
            token = str(page.get("nextPageToken") or "")
            if not token:
                return
            if token in seen:
                raise retryable("services.skus.list: a page token comes again", code="BadAnswer", place=_PLACE)
            seen.add(token)
            longest = self._patience.longest
            if longest is not None and self._clock.now() - began >= longest:
                text = f"services.skus.list: not complete after {longest.total_seconds():g} s, {len(seen)} pages"
                raise ProviderError(f"gcp: {text}", provider="gcp", code="TooSlow")

    def first_page(self, service: str) -> list[Any]:
        """Return one SKU of a service."""
        page = self._get(f"v1/services/{service}/skus", "services.skus.list", {"pageSize": 1}, None)
        return page.get("skus") or []

    def price(self, sku: str) -> dict[str, Any]:
        """Return the price of one SKU, from the Pricing API (skus.price.get of cloudbilling.v1beta)."""
        return self._get(f"v1beta/skus/{sku}/price", "skus.price.get", {}, None)

    def _get(
        self,
        path: str,
        operation: str,
        parameters: dict[str, str | int],
        hook: Callable[[dict[str, Any]], Any] | None,
    ) -> dict[str, Any]:
        return self.retried(lambda: self._ask(path, operation, parameters, hook))

    def retried(self, call: Callable[[], Answer]) -> Answer:
        """Return what `call` returns; repeat it a few times after throttling and faults that pass, later each time."""
        wait = _LOCAL_WAIT if is_loopback(self._endpoint) else _FIRST_WAIT
        for attempt in range(1, self._patience.tries + 1):
            try:
                return call()
            except (ThrottledError, TransientError) as error:
                if attempt == self._patience.tries:
                    raise
                seconds = max(error.retry_after or 0.0, wait.total_seconds() * 2 ** (attempt - 1))
                self._clock.sleep(timedelta(seconds=min(seconds, _LONGEST_WAIT)))
        raise AssertionError("unreachable")

    def _ask(
        self,
        path: str,
        operation: str,
        parameters: dict[str, str | int],
        hook: Callable[[dict[str, Any]], Any] | None,
    ) -> dict[str, Any]:
        with self._lock:
            self.calls[operation] += 1
        session = self._session()
        with translate_errors(operation, _PLACE):
            # A redirect would take the key, which is in a header of its own, to another host.
            response = session.get(
                f"{self._endpoint}/{path}",
                params=parameters,
                headers=self._headers(),
                timeout=self._patience.timeout,
                allow_redirects=False,
            )
        if response.status_code >= 300:
            raise self._refusal(response, operation)
        try:
            found = json.loads(response.content, object_hook=hook)
        except ValueError as error:
            raise retryable(f"{operation}: the answer is not JSON", code="BadAnswer", place=_PLACE) from error
        if not isinstance(found, dict):
            raise retryable(f"{operation}: the answer is not an object", code="BadAnswer", place=_PLACE)
        return found

    def _session(self) -> requests.Session:
        """Return the session: with the credentials' tokens, or without where there is a key or a server on this machine."""
        settings = self._clients.settings
        if not self._key and not (is_loopback(self._endpoint) and not settings.configured().ok):
            return self._clients.session()
        with self._lock:
            if self._keyed is None:
                self._keyed = requests.Session()
                if is_loopback(self._endpoint):
                    self._keyed.trust_env = False
            return self._keyed

    def _headers(self) -> dict[str, str]:
        """Return the headers that name who asks: the key, or the project whose quota a user's credentials take.

        In a header, the key is in no URL, and so in no log and no error (https://cloud.google.com/docs/authentication/api-keys-use). Without a
        quota project, Google refuses the credentials of a user (https://cloud.google.com/docs/quotas/set-quota-project).
        """
        if self._key:
            return {"X-Goog-Api-Key": self._key}
        if is_loopback(self._endpoint) and not self._clients.settings.configured().ok:
            return {}
        credentials = self._clients.credentials()
        is_user = isinstance(credentials, google.oauth2.credentials.Credentials)
        if is_user and not credentials.quota_project_id and self._clients.settings.named_project:
            return {"X-Goog-User-Project": self._clients.project}
        return {}

    def _refusal(self, response: requests.Response, operation: str) -> MulticomputeError:
        message, code = response.reason or "", ""
        try:
            body = json.loads(response.content)["error"]
            message = str(body.get("message") or message)
            details = [item for item in body.get("details") or () if isinstance(item, dict)]
            code = next((str(item["reason"]) for item in details if item.get("reason")), str(body.get("status") or ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        if self._key:
            message = message.replace(self._key, "...")
        if code not in _REASONS and response.status_code in (400, 401, 403):
            code = next((reason for text, reason in _UNNAMED if text.search(message)), code)
        answer = VendorAnswer(code, message, response.status_code, retry_after(response.headers))
        meaning, hint = _REASONS.get(code, (meaning_of(MEANINGS, answer), ""))
        if not hint and meaning.kind is AccessDeniedError:
            hint = _ENABLE
        if not hint and meaning.kind is AuthError:
            hint = SIGN_IN
        return error_of(meaning, answer, operation=operation, place=_PLACE, hint=hint)
