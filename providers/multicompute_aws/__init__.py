"""Amazon Web Services: EC2 instances in every commercial region, bought on demand, as spot or from a reservation."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.errors import AuthError
from multicompute.provider import Configured, Settings, TagLimits
from multicompute_aws._access import SETTING_NAMES, look_for_access
from multicompute_aws._tags import KEY_PATTERN

if TYPE_CHECKING:
    from multicompute.provider import LocalCloud, Provider


class AwsPlugin:
    """The plug-in object of Amazon Web Services; it imports without boto3."""

    name = "aws"
    extra = "aws"
    modules: tuple[str, ...] = ("boto3", "botocore")
    can_launch = True
    tables = Path(__file__).parent / "data"
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html: 50 tags, five of which are ours; keys of 128, values of 256 characters.
    tag_limits = TagLimits(
        count=45, key_length=128, value_length=256, reserved_prefixes=("aws:",), key_pattern=KEY_PATTERN
    )
    setting_names = SETTING_NAMES
    # https://aws.amazon.com/about-aws/whats-new/2017/10/announcing-amazon-ec2-per-second-billing/: Linux by the second, 60 seconds at least, on
    # demand, reserved and spot alike. Distributions with an hourly charge of their own are billed by the hour: none of them is launched by default.
    billing_minimum = timedelta(minutes=1)

    def configured(self, settings: Settings) -> Configured:
        """Whether credentials or a local endpoint are found; looks at variables and files only, and asks nobody."""
        return look_for_access(settings)

    def open(self, settings: Settings) -> "Provider":
        """Open the provider; its clients are made when they are first needed.

        Raises:
            AuthError: no credentials and no local endpoint were found.
            ConfigError: a setting is malformed, or the endpoint is plain http on another machine.
        """
        found = self.configured(settings)
        if not found.ok:
            raise AuthError(f"aws: {found.why}", provider=self.name, hint="`aws configure`, or set AWS_PROFILE")
        from multicompute_aws._provider import AwsProvider

        return AwsProvider(settings)

    def local(self) -> "LocalCloud | None":
        """A local cloud on 127.0.0.1, not started yet."""
        from multicompute_aws.local import AwsLocalCloud

        cloud: LocalCloud = AwsLocalCloud()
        return cloud


plugin = AwsPlugin()
