"""Fourth on 127.0.0.1: strict, stateful, and as slow, late and forgetful as a test asks it to be."""

from fourth_cloud.local.cloud import FourthLocalCloud

__all__ = ["FourthLocalCloud"]
