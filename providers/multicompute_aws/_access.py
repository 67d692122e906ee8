"""Reads the settings, and tells from variables and files whether and where AWS can be reached; imports no SDK."""

import configparser
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from multicompute.errors import ConfigError
from multicompute.provider import Configured, Settings

SETTING_NAMES = (
    "profile",
    "regions",
    "endpoint_url",
    "vpc",
    "subnets",
    "security_groups",
    "key_name",
    "instance_profile",
    "ssh_from",
)

_WEB_IDENTITY = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN")
_CONTAINER = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
# On Nitro and on Xen instances the kernel shows the vendor here: the cheap way to know that an instance role may exist.
_VENDOR_FILE = Path("/sys/class/dmi/id/sys_vendor")


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """The table `[providers.aws]`, checked, and the environment to look for credentials in.

    Attributes:
        profile: the profile of AWS's own files to use.
        regions: the only regions to use and to look in; empty for every region that the account has enabled.
        endpoint_url: instead of AWS's own endpoints, for every service.
        vpc, subnets: where to launch, instead of the default VPC.
        security_groups: to use instead of one made per cluster.
        key_name: a key pair that the account has.
        instance_profile: name or ARN of the instance profile of the nodes.
        ssh_from: CIDR blocks from which port 22 is reachable; empty for the caller's own address.
    """

    profile: str | None = None
    regions: tuple[str, ...] = ()
    endpoint_url: str | None = None
    vpc: str | None = None
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    key_name: str | None = None
    instance_profile: str | None = None
    ssh_from: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "AwsSettings":
        """Check the configured values.

        Raises:
            ConfigError: a value is not of its kind, or an endpoint is plain http on another machine.
        """
        values = settings.values
        read = cls(
            profile=_text(values, "profile"),
            regions=_texts(values, "regions"),
            endpoint_url=_text(values, "endpoint_url"),
            vpc=_text(values, "vpc"),
            subnets=_texts(values, "subnets"),
            security_groups=_texts(values, "security_groups"),
            key_name=_text(values, "key_name"),
            instance_profile=_text(values, "instance_profile"),
            ssh_from=tuple(_network(item) for item in _texts(values, "ssh_from")),
            environment=settings.environment,
        )
        for service in ("ec2", "ssm"):
            check_endpoint(read.endpoint(service))
        return read

    def endpoint(self, service: str) -> str | None:
        """The address to reach `service` at, or None for what the SDK finds by itself."""
        if self.endpoint_url:
            return self.endpoint_url
        if self.environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            return None
        own = "AWS_ENDPOINT_URL_" + service.replace("-", "_").upper()
        return self.environment.get(own) or self.environment.get("AWS_ENDPOINT_URL") or None

    @property
    def is_local(self) -> bool:
        """Whether EC2 is reached on a loopback address."""
        endpoint = self.endpoint("ec2")
        return endpoint is not None and is_loopback(endpoint)

    @property
    def named_profile(self) -> str | None:
        """The profile to use: the configured one before AWS_PROFILE."""
        return self.profile or self.environment.get("AWS_PROFILE") or self.environment.get("AWS_DEFAULT_PROFILE")

    @property
    def home_region(self) -> str:
        """The region to ask what is not about a region."""
        named = self.environment.get("AWS_REGION") or self.environment.get("AWS_DEFAULT_REGION")
        return self.regions[0] if self.regions else named or "us-east-1"

    def file(self, variable: str, name: str) -> Path | None:
        """One of AWS's two files, or None where there is none."""
        named, home = self.environment.get(variable), self.environment.get("HOME")
        path = Path(named).expanduser() if named else Path(home, ".aws", name) if home else None
        return path if path is not None and path.is_file() else None


def look_for_access(settings: Settings) -> Configured:
    """Whether there is anything to reach AWS with, from where it comes, and which regions are to be used."""
    read = AwsSettings.of(settings)
    return replace(_look(read), regions=read.regions)


def _look(read: AwsSettings) -> Configured:
    if read.is_local:
        return Configured(ok=True, why=f"a local endpoint, {read.endpoint('ec2')}")
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
    disabled = read.environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    if not disabled and read.environment.get("HOME") and _is_on_ec2():
        return Configured(ok=True, why="this machine runs on EC2; whether it has a role is known when it is asked")
    return Configured(ok=False, why="no credentials in the environment, in ~/.aws, or from an instance role")


def _is_on_ec2() -> bool:
    try:
        return "Amazon EC2" in _VENDOR_FILE.read_text()
    except OSError:
        return False


def _profile_access(read: AwsSettings, profile: str, *, source: str) -> Configured:
    if profile in _profiles(read):
        return Configured(ok=True, why=f"profile {profile}")
    return Configured(ok=False, why=f"{source} names {profile!r}, which is in neither of AWS's files")


def _profiles(read: AwsSettings) -> frozenset[str]:
    """The profiles of both files; a file that can't be read has none, the SDK tells why when it is used."""
    names: set[str] = set()
    for variable, name in (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")):
        path = read.file(variable, name)
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read([path] if path else [], encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        names |= {section.removeprefix("profile ").strip() for section in parser.sections()}
    return frozenset(names)


def is_loopback(url: str) -> bool:
    """Whether `url` leads to this machine and nowhere else."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_endpoint(url: str | None) -> None:
    """Refuse an endpoint over which requests and answers would travel in the open.

    Raises:
        ConfigError: not a URL, or plain http to another machine.
    """
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"aws: endpoint_url={url!r} is not a URL", provider="aws", hint='write "https://host:port"')
    if parts.scheme == "http" and not is_loopback(url):
        raise ConfigError(
            f"aws: endpoint_url={url!r}: plain http is allowed on loopback addresses only",
            provider="aws",
            hint="use https",
        )


def _text(values: Mapping[str, object], name: str) -> str | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ConfigError(f"[providers.aws] {name}={value!r}: must be a text", provider="aws")
    return value


def _texts(values: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = values.get(name)
    if value is None:
        return ()
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"[providers.aws] {name}={value!r}: must be a list of texts", provider="aws")
    return tuple(item.strip() for item in items if item.strip())


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise ConfigError(f"[providers.aws] ssh_from={text!r}: {error}", provider="aws") from error
