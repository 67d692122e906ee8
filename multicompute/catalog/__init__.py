"""The catalog: merges the offer tables of all providers and answers queries over them."""

from multicompute.catalog.merged import Catalog

__all__ = ["Catalog"]
