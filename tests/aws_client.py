"""The real AWS SDK, connected to a local AWS without a provider in between."""

from typing import Any

import boto3
import botocore.session

from multicompute_aws._descriptions import descriptions


def aws_client(
    service: str, endpoint_url: str, *, region: str = "us-east-1", key: str = "local", **options: Any
) -> Any:
    """Return a client of any service, with `key` as its access key and its secret."""
    session = botocore.session.Session()
    session.register_component("data_loader", descriptions())
    create: Any = boto3.Session(botocore_session=session).client
    return create(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        aws_access_key_id=key,
        aws_secret_access_key=key,
        **options,
    )
