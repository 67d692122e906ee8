"""The catalog: merges the offer tables of all providers and answers queries over them."""

from typing import TYPE_CHECKING

from multicompute.catalog.merged import Catalog

if TYPE_CHECKING:
    from multicompute.price_refresh import CloudReport, PriceMove, RefreshReport, refresh, reset

__all__ = ["Catalog", "CloudReport", "PriceMove", "RefreshReport", "refresh", "reset"]


def __getattr__(name: str) -> object:
    # Lazy (PEP 562): a refresh needs what is above the catalog, and plans do not need a refresh.
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("multicompute.price_refresh"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
