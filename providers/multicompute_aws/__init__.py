"""Amazon Web Services: EC2 instances in every commercial region, bought on demand, as spot or from a reservation."""

from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.errors import AuthError
from multicompute.provider import Configured, Settings, TagLimits
from multicompute_aws._tags import KEY_PATTERN

if TYPE_CHECKING:
    from multicompute.provider import LocalCloud, Provider


class AwsPlugin:
    """The plug-in object of Amazon Web Services.

    Importing it loads neither boto3 nor pydantic: every command imports it, and most need neither.
    """

    name = "aws"
    extra = "aws"
    modules: tuple[str, ...] = ("boto3", "botocore")
    can_launch = True
    tables = Path(__file__).parent / "data"
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html: 50 tags, five of which are ours; keys of 128, values of 256 characters.
    tag_limits = TagLimits(
        count=45, key_length=128, value_length=256, reserved_prefixes=("aws:",), key_pattern=KEY_PATTERN
    )
    # https://aws.amazon.com/about-aws/whats-new/2017/10/announcing-amazon-ec2-per-second-billing/: Linux by the second, 60 seconds at least,
    # for on-demand, reserved and spot alike. Distributions with an hourly charge of their own are billed by the hour; no default image is one.
    billing_minimum = timedelta(minutes=1)

    @cached_property
    def setting_names(self) -> tuple[str, ...]:
        """The keys that `[providers.aws]` may have."""
        from multicompute.provider_kit.settings import setting_names
        from multicompute_aws._settings import AwsSettings

        return setting_names(AwsSettings)

    def configured(self, settings: Settings) -> Configured:
        """Return whether credentials or a local endpoint are found, from variables and files only, without a network call.

        Raises:
            ConfigError: a setting is malformed, or the endpoint is plain http to another machine.
        """
        from multicompute_aws._settings import configured

        return configured(settings)

    def open(self, settings: Settings) -> "Provider":
        """Open the provider; its clients are made when they are first needed.

        Raises:
            AuthError: no credentials and no local endpoint were found.
            ConfigError: a setting is malformed, or the endpoint is plain http to another machine.
        """
        found = self.configured(settings)
        if not found.ok:
            raise AuthError(f"aws: {found.why}", provider=self.name, hint="`aws configure`, or set AWS_PROFILE")
        from multicompute_aws._provider import AwsProvider

        return AwsProvider(settings)

    def local(self) -> "LocalCloud | None":
        """Return a local cloud on 127.0.0.1 that has not been started."""
        from multicompute_aws.local import AwsLocalCloud

        cloud: LocalCloud = AwsLocalCloud()
        return cloud


plugin = AwsPlugin()
