"""The Azure Retail Prices API, which needs no credentials: filters, pages and throttling."""

import functools
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode, urljoin

from multicompute.provider_kit.vendor_errors import Place, retryable
from multicompute_azure import _http as http
from multicompute_azure._retries import Retries

OPERATION: Final = "retailPrices.list"
SOURCE: Final = "Azure Retail Prices API"
# "Azure Retail Prices REST API overview": the version in which the values of a filter have a case, and rows have savings plans.
PREVIEW: Final = "2023-01-01-preview"
_PATH: Final = "/api/retail/prices"

Row = Mapping[str, Any]


class PriceList:
    """The price list of public Azure. Several threads can use it."""

    def __init__(self, endpoint: str, *, retries: Retries | None = None) -> None:
        """Read from an endpoint, "https://prices.azure.com" or the user's own.

        Args:
            endpoint: The URL below which the path of the API is.
            retries: Repeats what is throttled or gets no answer; None to try once.
        """
        self._endpoint = endpoint.rstrip("/")
        self._retries = retries
        self._lock = threading.Lock()

    def rows(self, place: Place, text: str, *, version: str = "") -> Iterator[Row]:
        """Yield the rows that pass a filter, page by page to the last.

        The link to the next page is followed as it is, but only to the host of the endpoint: an answer must not send the caller elsewhere.

        Args:
            place: The place to name in messages.
            text: The filter.
            version: The version of the API; "" for its default, in which the values of a filter have no case.

        Raises:
            MulticomputeError: A page can't be read, or is no page, or its link leads to another host or to a page that was already read.
        """
        options = {"api-version": version, "$filter": text} if version else {"$filter": text}
        url, seen = f"{self._endpoint}{_PATH}?{urlencode(options, quote_via=quote)}", set[str]()
        while url:
            if http.host_of(url) != http.host_of(self._endpoint):
                raise retryable(f"{OPERATION}: the next page is on another host", code="BadAnswer", place=place)
            if url in seen:
                raise retryable(f"{OPERATION}: the next page was already read", code="BadAnswer", place=place)
            seen.add(url)
            page = self._page(url, place)
            currency = page.get("BillingCurrency")
            for row in page["Items"]:
                yield {"currencyCode": currency, **row} if isinstance(row, dict) else {}
            # It has a port (":443") and a position ($skip). An empty page may have a link, too.
            url = urljoin(url, str(page.get("NextPageLink") or "")) if page.get("NextPageLink") else ""

    def _page(self, url: str, place: Place) -> dict[str, Any]:
        if self._retries is None:
            return self._ask(url, place)
        return self._retries.run(OPERATION, lambda: self._ask(url, place))

    def _ask(self, url: str, place: Place) -> dict[str, Any]:
        from azure.core.rest import HttpRequest

        page = http.answer(lambda: self._client, HttpRequest("GET", url), OPERATION, place)
        if not isinstance(page.get("Items"), list):
            raise retryable(f"{OPERATION}: the answer has no rows", code="BadAnswer", place=place)
        return page

    @functools.cached_property
    def _client(self) -> Any:
        from azure.core import PipelineClient

        with self._lock:
            transport = http.connections(self._endpoint)
            return PipelineClient(self._endpoint, pipeline=http.pipeline(transport, []))
