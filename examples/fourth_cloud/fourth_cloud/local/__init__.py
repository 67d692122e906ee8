"""Fourth on 127.0.0.1: strict and stateful, with the delays and faults that a test sets."""

from fourth_cloud.local.cloud import FourthLocalCloud

__all__ = ["FourthLocalCloud"]
