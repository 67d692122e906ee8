"""AWS on this machine for tests: `AwsLocalCloud`."""

from multicompute_aws.local.cloud import AwsLocalCloud

__all__ = ["AwsLocalCloud"]
