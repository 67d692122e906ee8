"""The refresh of the offer tables: fetches prices from the vendors, checks them, and replaces the tables cloud by cloud."""

from multicompute.price_refresh._report import CloudReport, PriceMove, RefreshReport
from multicompute.price_refresh._run import refresh, reset

__all__ = ["CloudReport", "PriceMove", "RefreshReport", "refresh", "reset"]
