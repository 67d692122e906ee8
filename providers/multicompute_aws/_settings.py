"""The settings of AWS, and where credentials and endpoints are found; no SDK is imported and no network call made."""

import re
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, Field

from multicompute.provider import Configured, Settings
from multicompute.provider_kit.endpoints import check_endpoint, is_loopback
from multicompute.provider_kit.settings import (
    SETTINGS,
    CidrBlocks,
    Endpoint,
    Environment,
    SshSettings,
    Texts,
    existing_file,
    firmware_has,
    read_ini,
    read_settings,
)

_REGION = r"[a-z]+(-[a-z]+)+-\d+"
_WEB_IDENTITY = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN")
_CONTAINER = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
# On Nitro and on Xen instances the kernel shows the vendor here, so an instance role may exist.
_VENDOR_FILE = Path("/sys/class/dmi/id/sys_vendor")


class AwsSettings(SshSettings, BaseModel):
    """The table `[providers.aws]`, checked, and the environment to look for credentials in."""

    model_config = SETTINGS

    profile: str | None = Field(
        None,
        description="The profile of AWS's own configuration files. Default: AWS_PROFILE, else the credentials found.",
    )
    regions: Texts = Field(
        (),
        description="The only regions to launch and to list in, or zones to launch in. "
        "Default: every region that the account has enabled.",
    )
    endpoint_url: Endpoint | None = Field(
        None, description="The endpoint of every service. Default: AWS_ENDPOINT_URL, else AWS's own endpoints."
    )
    vpc: str | None = Field(None, description="The id of the VPC to launch in. Default: the default VPC of the region.")
    subnets: Texts = Field((), description="The ids of the subnets to launch in. Default: those of the VPC.")
    security_groups: Texts = Field(
        (), description="The ids of the security groups of the nodes. Default: one that is made for each cluster."
    )
    key_name: str | None = Field(None, description="The name of a key pair of the account to install on the nodes.")
    instance_profile: str | None = Field(None, description="The name or ARN of the instance profile of the nodes.")
    ssh_from: CidrBlocks = Field(
        (), description="The CIDR blocks from which port 22 can be reached. Default: the caller's own address."
    )
    spot_advisor_url: Endpoint | None = Field(
        None,
        description="The address of the Spot Advisor's data, for the interruption rates. Default: the public file of AWS.",
    )
    environment: Environment = {}

    @classmethod
    def of(cls, settings: Settings) -> "AwsSettings":
        """Check what a plug-in is opened with, endpoints in the environment included.

        Raises:
            ConfigError: A key is unknown, a value is not of its kind, or an endpoint is plain http to another machine.
        """
        read = read_settings(cls, settings, provider="aws")
        for service in ("ec2", "ssm"):
            check_endpoint(read.endpoint(service), name="endpoint_url", provider="aws")
        return read

    def endpoint(self, service: str) -> str | None:
        """Return the endpoint of a service, or None for the one that the SDK finds by itself."""
        if self.endpoint_url:
            return self.endpoint_url
        if self.environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            return None
        own = "AWS_ENDPOINT_URL_" + service.replace("-", "_").upper()
        return self.environment.get(own) or self.environment.get("AWS_ENDPOINT_URL") or None

    @property
    def is_local(self) -> bool:
        """Return whether EC2 is reached on a loopback address."""
        return is_loopback(self.endpoint("ec2"))

    @property
    def named_profile(self) -> str | None:
        """Return the profile to use: the setting, else that of the environment."""
        return self.profile or self.environment.get("AWS_PROFILE") or self.environment.get("AWS_DEFAULT_PROFILE")

    @property
    def home_region(self) -> str:
        """Return the region to call for what belongs to no region."""
        named = self.environment.get("AWS_REGION") or self.environment.get("AWS_DEFAULT_REGION")
        return self.listed_regions[0] if self.regions else named or "us-east-1"

    @property
    def listed_regions(self) -> tuple[str, ...]:
        """Return the regions to list in; of a zone ("us-east-1a", "us-west-2-lax-1a") its region. Empty for all."""
        found = (match[0] if (match := re.match(_REGION, name)) else name for name in self.regions)
        return tuple(dict.fromkeys(found))

    def configured(self) -> Configured:
        """Return whether AWS can be reached, with which credentials, and in which regions only."""
        return replace(_find_access(self), regions=self.regions)


def _find_access(read: AwsSettings) -> Configured:
    """Look for credentials in the order in which boto3 does."""
    if read.is_local:
        return Configured(ok=True, why=f"a local endpoint, {read.endpoint('ec2')}", is_local=True)
    if read.profile:
        return _profile_access(read, read.profile, source="[providers.aws] profile")
    env = read.environment
    if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        return Configured(ok=True, why="AWS_ACCESS_KEY_ID")
    if read.named_profile:
        return _profile_access(read, read.named_profile, source="AWS_PROFILE")
    if all(env.get(name) for name in _WEB_IDENTITY):
        return Configured(ok=True, why="AWS_WEB_IDENTITY_TOKEN_FILE")
    if any(env.get(name) for name in _CONTAINER):
        return Configured(ok=True, why="the credentials of the container")
    if "default" in _profiles(read):
        return Configured(ok=True, why="the default profile")
    return _instance_role(read)


def _instance_role(read: AwsSettings) -> Configured:
    is_disabled = read.environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    if not is_disabled and read.environment.get("HOME") and firmware_has(_VENDOR_FILE, "Amazon EC2"):
        return Configured(ok=True, why="this machine runs on EC2; whether it has a role is known at the first call")
    return Configured(ok=False, why="no credentials in the environment, in ~/.aws, or from an instance role")


def _profile_access(read: AwsSettings, profile: str, *, source: str) -> Configured:
    if profile in _profiles(read):
        return Configured(ok=True, why=f"profile {profile}")
    return Configured(ok=False, why=f"{source} names {profile!r}, which is in neither of AWS's files")


def _profiles(read: AwsSettings) -> frozenset[str]:
    """Return the profiles of AWS's two files."""
    files = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))
    found = read_ini(*(_file(read, variable, name) for variable, name in files))
    return frozenset(section.removeprefix("profile ").strip() for section in found.sections())


def _file(read: AwsSettings, variable: str, name: str) -> Path | None:
    named, home = read.environment.get(variable), read.environment.get("HOME")
    path = named or (Path(home, ".aws", name) if home else None)
    return existing_file(path) if path else None
