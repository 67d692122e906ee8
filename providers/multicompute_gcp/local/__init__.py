"""Google Cloud on this machine for tests: `GcpLocalCloud`."""

from multicompute_gcp.local.cloud import GcpLocalCloud

__all__ = ["GcpLocalCloud"]
