"""The real AWS SDK, connected to a local AWS without a provider in between."""

import functools
from typing import Any

import boto3
import botocore.loaders
import botocore.session


def aws_client(
    service: str, endpoint_url: str, *, region: str = "us-east-1", key: str = "local", **options: Any
) -> Any:
    """Return a client of any service, with `key` as its access key and its secret."""
    session = botocore.session.Session()
    session.register_component("data_loader", _api_models())
    create: Any = boto3.Session(botocore_session=session).client
    return create(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        aws_access_key_id=key,
        aws_secret_access_key=key,
        **options,
    )


@functools.cache
def _api_models() -> botocore.loaders.Loader:
    """Return a loader that reads each service's description once per process: EC2's takes 60 ms."""
    return botocore.loaders.create_loader()
