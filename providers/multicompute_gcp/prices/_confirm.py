"""The second query for prices that have moved much: the Pricing API, SKU by SKU."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Final

from multicompute.errors import MulticomputeError
from multicompute.offer import Quote
from multicompute.price_feed import Price, PriceKey
from multicompute.provider_kit.calls import in_parallel
from multicompute_gcp.prices._billing import Billing
from multicompute_gcp.prices._rates import Composed, basis_of
from multicompute_gcp.prices._skus import UnreadableError, price_of

# More single calls than this take longer than the complete list.
_MOST_SKUS: Final = 64
_AT_ONCE: Final = 16
_CENTS: Final = Decimal("0.000001")
_SOURCE: Final = "Cloud Billing Pricing API v1beta"


def by_sku(
    prices: Sequence[Price], composed: Mapping[PriceKey, Composed], billing: Billing, *, today: date
) -> list[Price] | None:
    """Return what the Pricing API says of prices; None if these are too many SKUs, or the API does not answer.

    Args:
        prices: The prices to ask for again.
        composed: How the last query composed them.
        billing: The API.
        today: The date of the answers.
    """
    known = {price: composed[price.key] for price in prices if price.key in composed}
    rates = {rate.sku: rate for found in known.values() for rate in found.rates}
    if len(rates) > _MOST_SKUS:
        return None
    try:
        answers = dict(zip(rates, in_parallel(billing.price, rates, at_once=_AT_ONCE), strict=True))
    except MulticomputeError:
        # The API is a beta, and not every server of price lists has it.
        return None
    usd: dict[str, Decimal] = {}
    for sku, rate in rates.items():
        try:
            usd[sku] = price_of(answers[sku], rate.component)
        except UnreadableError:
            continue
    again = []
    for price, found in known.items():
        if all(usd.get(rate.sku) for rate in found.rates):
            cost = sum(
                (usd[rate.sku] * count for rate, count in zip(found.rates, found.counts, strict=True)), Decimal(0)
            )
            source = found.quote.source.replace("Cloud Billing Catalog", _SOURCE)
            quote = Quote(float(cost.quantize(_CENTS)), today, source, basis_of(found.rates))
            again.append(replace(price, quote=quote))
    return again
