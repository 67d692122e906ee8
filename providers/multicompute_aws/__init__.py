"""Amazon Web Services: EC2 instances in every commercial region, bought on demand, as spot or from a reservation."""

from datetime import timedelta
from pathlib import Path

from multicompute.provider import TagLimits
from multicompute.provider_kit.plugin import Plugin

plugin = Plugin(
    name="aws",
    extra="aws",
    modules=("boto3", "botocore"),
    tables=Path(__file__).parent / "data",
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html: 50 tags, six of which are ours on instances; keys of 128, values of 256 characters.
    tag_limits=TagLimits(count=44, key_length=128, value_length=256, reserved_prefixes=("aws:",)),
    # https://aws.amazon.com/about-aws/whats-new/2017/10/announcing-amazon-ec2-per-second-billing/: Linux by the second, 60 seconds at least,
    # for on-demand, reserved and spot alike. Distributions with an hourly charge of their own are billed by the hour; no default image is one.
    billing_minimum=timedelta(minutes=1),
    # No vendor page states it; smaller types take less, types with eight GPUs several times as long.
    usual_launch=timedelta(minutes=1),
    settings="multicompute_aws._settings:AwsSettings",
    provider="multicompute_aws._provider:AwsProvider",
    local_cloud="multicompute_aws.local:AwsLocalCloud",
    sign_in="`aws configure`, or set AWS_PROFILE",
)
