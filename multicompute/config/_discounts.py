"""A discount in the configuration: which prices it is on, and what it takes off."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from multicompute.arguments import Count, Text, Texts
from multicompute.errors import SpecError
from multicompute.fields import Form, ParsedModel

_PRICES = ("percent", "usd_per_accelerator_hour", "hourly_usd")


def _price(value: Any, name: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 0:
        raise SpecError(f"{name}={value!r}: must be an amount in USD per hour, at least 0")
    return float(value)


def _percent(value: Any, name: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 100:
        raise SpecError(f"{name}={value!r}: must be from 0 to 100")
    return float(value)


class Discount(ParsedModel):
    """A discount on list prices, of a contract or a commitment."""

    cloud: Annotated[Text, Field(description="The provider.")]
    instance_type: Annotated[Text, Field(description="Glob on the names of instance types.")] = "*"
    regions: Annotated[Texts, Field(description="Globs on regions, or residencies; all regions if omitted.")] = ()
    purchase: Annotated[
        Literal["on_demand", "spot", "flex_start", "reserved"],
        Field(description="The purchase type of the nodes that it covers."),
    ] = "on_demand"
    percent: Annotated[
        float | None, Form(_percent, "float", "N"), Field(description="What it takes off the list price, in per cent.")
    ] = None
    usd_per_accelerator_hour: Annotated[
        float | None,
        Form(_price, "float", "USD"),
        Field(description="The price in USD per accelerator-hour, instead of the list price."),
    ] = None
    hourly_usd: Annotated[
        float | None,
        Form(_price, "float", "USD"),
        Field(description="The price in USD per node-hour, instead of the list price."),
    ] = None
    nodes: Annotated[
        Count | None, Field(description="How many nodes it covers at once; those beyond cost the list price.")
    ] = None

    @classmethod
    def _check(cls, values: dict[str, Any]) -> None:
        given = [name for name in _PRICES if values[name] is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise SpecError(f"write exactly one of {', '.join(_PRICES)}; found {found}")

    @property
    def text(self) -> str:
        """The discount in half a line."""
        what = f"{self.cloud} {self.instance_type}"
        where = f" in {', '.join(self.regions)}" if self.regions else ""
        if self.percent is not None:
            return f"{what}{where}: {self.percent:g}% off"
        if self.usd_per_accelerator_hour is not None:
            return f"{what}{where}: ${self.usd_per_accelerator_hour:g} per accelerator-hour"
        return f"{what}{where}: ${self.hourly_usd:g} per node-hour"


def parse_discounts(value: Any, name: str) -> tuple[Discount, ...]:
    """Parse the tables of `[[discounts]]`.

    Raises:
        SpecError: One is wrong; `argument` is "discounts[N]", with the key if there is one.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise SpecError(f"{name}: must be tables, each written [[{name}]]", argument=name)
    found = []
    for position, table in enumerate(value):
        where = f"{name}[{position}]"
        if isinstance(table, Discount):
            found.append(table)
            continue
        if not isinstance(table, Mapping):
            raise SpecError(f"{name}: must be tables, each written [[{name}]]", argument=name)
        try:
            found.append(Discount(**table))
        except SpecError as error:
            error.argument = f"{where}.{error.argument}" if error.argument else where
            raise
    return tuple(found)
