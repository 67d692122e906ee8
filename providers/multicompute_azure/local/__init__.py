"""Azure on this machine for tests: `AzureLocalCloud`."""

from multicompute_azure.local.cloud import AzureLocalCloud

__all__ = ["AzureLocalCloud"]
