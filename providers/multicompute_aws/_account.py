"""The account that the credentials belong to."""

from multicompute.provider import Account
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import translate_errors
from multicompute_aws._session import Clients


def account(clients: Clients) -> Account:
    """Return the AWS account; the partition is part of its id, because partitions number their accounts independently."""
    place = Place("aws", clients.settings.home_region)
    with translate_errors("GetCallerIdentity", place):
        answer = clients.sts(place.region).get_caller_identity()
    # arn:PARTITION:sts::ACCOUNT:..., https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
    partition, number = answer["Arn"].split(":")[1], answer["Account"]
    where = "" if partition == "aws" else f" (partition {partition})"
    return Account((f"{partition}:{number}",), f"AWS account {number}{where}")
