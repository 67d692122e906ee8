"""What all clouds sell: merges the providers' offer tables and answers queries over them."""

from multicompute.catalog.merged import Catalog

__all__ = ["Catalog"]
