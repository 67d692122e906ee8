"""The SDK's clients: one per service and region, made when first needed and shared by all threads."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import boto3
import botocore.session
from botocore.config import Config
from botocore.configprovider import ConstantProvider

from multicompute.errors import AccessDeniedError, AuthError, MulticomputeError
from multicompute.provider_kit.call_log import note_request
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.endpoints import check_endpoint, is_loopback
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._descriptions import collector_paused, descriptions
from multicompute_aws._errors import log, refuse_error_pages, translate_errors
from multicompute_aws._settings import AwsSettings
from multicompute_aws._trim import trim_answers

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_service_quotas import ServiceQuotasClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient

Answer = TypeVar("Answer")

# One try per call: a lack of capacity arrives as HTTP 500, which the SDK would repeat for seconds before the engine can fail over. The
# engine knows what is worth repeating, and repeats with the same token. A RunInstances of 1,000 nodes takes EC2 tens of seconds.
_CONFIG: Final = Config(
    retries={"mode": "standard", "total_max_attempts": 1},
    connect_timeout=10,
    read_timeout=90,
    max_pool_connections=32,
    user_agent_extra="multicompute",
)
# The price list has an endpoint in three regions, each with the prices of all regions: botocore data/endpoints.json, "api.pricing".
_PRICING_REGIONS: Final[Mapping[str, str]] = {"ap": "ap-south-1", "eu": "eu-central-1"}
_PRICING_REGION: Final = "us-east-1"
_REGIONS_AT_ONCE: Final = 8
# The files of the SDK: the variable that names one, botocore's name for it, and its default.
_FILES: Final = (
    ("AWS_SHARED_CREDENTIALS_FILE", "credentials_file", "~/.aws/credentials"),
    ("AWS_CONFIG_FILE", "config_file", "~/.aws/config"),
)
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Region.html; the others are opt-in-not-required and opted-in.
_DISABLED: Final = frozenset({"not-opted-in"})


class Clients:
    """The SDK's clients for one set of settings."""

    def __init__(
        self,
        settings: AwsSettings,
        *,
        retries: Mapping[str, Any] | None = None,
        on_request: Callable[[str], None] | None = None,
    ) -> None:
        """Make no client yet.

        Args:
            settings: The settings of the provider.
            retries: Service -> botocore's settings of its retries, for callers that the engine does not repeat calls for.
            on_request: Called with the name of the operation for each request, repeated ones included.
        """
        self.settings = settings
        self._retries = retries or {}
        self._on_request = on_request
        # A boto3 session must not be used by two threads at once, its clients may be.
        self._lock = threading.Lock()
        self._session: boto3.Session | None = None
        self._clients: dict[tuple[str, str], Any] = {}
        self._opt_in: Mapping[str, str] | None = None

    def ec2(self, region: str) -> "EC2Client":
        return cast("EC2Client", self._client("ec2", region))

    def ssm(self, region: str) -> "SSMClient":
        return cast("SSMClient", self._client("ssm", region))

    def service_quotas(self, region: str) -> "ServiceQuotasClient":
        return cast("ServiceQuotasClient", self._client("service-quotas", region))

    def sts(self, region: str) -> "STSClient":
        return cast("STSClient", self._client("sts", region))

    def cloudwatch(self, region: str) -> Any:
        return self._client("cloudwatch", region)

    def pricing(self) -> Any:
        home = self.settings.home_region.partition("-")[0]
        return self._client("pricing", _PRICING_REGIONS.get(home, _PRICING_REGION))

    def replace_by(self, other: "Clients") -> None:
        """Use the session and the clients of `other` from now on: the same settings, with the credentials read again."""
        with self._lock:
            self._session, self._clients, self._opt_in = other._session, other._clients, other._opt_in

    def regions(self) -> tuple[str, ...]:
        """Return the configured regions, else every region that the account has enabled."""
        if self.settings.listed_regions:
            return self.settings.listed_regions
        return tuple(sorted(name for name, status in self._opt_in_statuses().items() if status not in _DISABLED))

    def _opt_in_statuses(self) -> Mapping[str, str]:
        """Return region -> its opt-in status in this account; they are read once."""
        if self._opt_in is None:
            place = Place("aws", self.settings.home_region)
            with self.refusal_of_region(place.region), translate_errors("DescribeRegions", place):
                answer = self.ec2(place.region).describe_regions(AllRegions=True)
            self._opt_in = {item["RegionName"]: item.get("OptInStatus", "") for item in answer["Regions"]}
        return self._opt_in

    def in_regions(
        self, region: str | None, call: "Callable[[EC2Client, Place], Answer]", *, is_listing: bool = False
    ) -> list[Answer]:
        """Return what `call` returns for one region, or for each of `regions` in their order, several at a time.

        Regions that refuse every call are left out of a call for all regions: those that the account has not enabled and,
        with `is_listing`, those that a policy of the organisation denies, with a warning. A single region is never left out.
        """
        names = (region,) if region else self.regions()

        def in_region(name: str) -> Answer | AccessDeniedError:
            try:
                with self.refusal_of_region(name):
                    return call(self.ec2(name), Place("aws", name))
            except AccessDeniedError as error:
                is_left_out = error.code == "OptInRequired" or (is_listing and error.scope == "region")
                if region or not is_left_out:
                    raise
                log.warning("%s: left out of what was asked for in all regions: %s", error.provider, error.message)
                return error

        answers = in_parallel(in_region, names, at_once=_REGIONS_AT_ONCE)
        errors = [answer for answer in answers if isinstance(answer, AccessDeniedError)]
        if errors and len(errors) == len(answers):
            raise errors[0]
        return [answer for answer in answers if not isinstance(answer, AccessDeniedError)]

    def why_not(self, region: str) -> str:
        """Return why the account can use nothing in a region, as far as the list of regions tells; "" if it can."""
        status = self._opt_in_statuses().get(region)
        if status is None:
            return "the account's partition has no such region"
        return "not enabled in this account" if status in _DISABLED else ""

    def enabled(self) -> tuple[int, int]:
        """Return how many regions the account has enabled, and how many exist."""
        statuses = self._opt_in_statuses().values()
        return sum(status not in _DISABLED for status in statuses), len(statuses)

    @contextmanager
    def refusal_of_region(self, region: str) -> Iterator[None]:
        """Raise AccessDeniedError in place of AuthError where the region and not the credentials is the reason.

        Where a region is not enabled, EC2 refuses valid credentials as it refuses wrong ones, with `AuthFailure`, and other
        services with their own codes for unknown keys:
        https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html,
        https://github.com/turbot/steampipe-plugin-aws/issues/75
        """
        try:
            yield
        except AuthError as error:
            if error.scope != "region":
                raise
            if region != self.settings.home_region and self._is_disabled(region):
                raise _refusal(error, region, "the account has not enabled this region", "OptInRequired") from error
            if region == self.settings.home_region or not self._accepts_credentials():
                error.scope = "account"
                raise
            text = "the region refuses credentials that the account's home region accepts"
            raise _refusal(error, region, text, error.code or "") from error

    def _accepts_credentials(self) -> bool:
        """Return whether the identity service in the home region accepts the credentials.

        Every identity may make this call: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
        """
        home = self.settings.home_region
        try:
            with translate_errors("GetCallerIdentity", Place("aws", home)):
                self.sts(home).get_caller_identity()
        except AuthError:
            return False
        except MulticomputeError:
            # No answer shows nothing, and only the region is known to refuse.
            return True
        return True

    def _is_disabled(self, region: str) -> bool:
        try:
            return self._opt_in_statuses().get(region) in _DISABLED
        except MulticomputeError:
            # The home region refuses as well, so it is about the credentials.
            return False

    def _client(self, service: str, region: str) -> Any:
        key = (service, region)
        client = self._clients.get(key)
        if client is None:
            with self._lock, translate_errors(f"the {service} client", Place("aws", region)), collector_paused():
                client = self._clients.get(key)
                if client is None:
                    client = self._clients[key] = self._make(service, region)
        return client

    def _make(self, service: str, region: str) -> Any:
        if self._session is None:
            self._session = self._open_session()
        endpoint = self.settings.endpoint(service)
        keys = self._keys(endpoint)
        # A local cloud is not behind the user's proxy.
        config = _CONFIG.merge(Config(proxies={})) if is_loopback(endpoint) else _CONFIG
        if service in self._retries:
            config = config.merge(Config(retries=self._retries[service]))
        # The stubs have one overload for each name of a service, and none for a variable.
        client = self._session.client(service, region_name=region, endpoint_url=endpoint, config=config, **keys)  # type: ignore[call-overload] # the stubs have an overload for each literal name
        # The profile may name an endpoint, too; the rule about plain http holds wherever it comes from.
        check_endpoint(client.meta.endpoint_url, name="endpoint_url", provider="aws")
        client.meta.events.register("after-call", _note_request)
        if is_loopback(client.meta.endpoint_url):
            client.meta.events.register("before-parse", refuse_error_pages)
        if self._on_request is not None:
            client.meta.events.register("before-send", self._count_request)
        if service == "ec2":
            trim_answers(client)
        return client

    def _count_request(self, event_name: str, **_: object) -> None:
        if self._on_request is not None:
            self._on_request(event_name.rpartition(".")[2])

    def _keys(self, endpoint: str | None) -> dict[str, str]:
        env, settings = self.settings.environment, self.settings
        if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY") and not settings.profile:
            keys = {
                "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
                "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
            }
            return keys | ({"aws_session_token": env["AWS_SESSION_TOKEN"]} if env.get("AWS_SESSION_TOKEN") else {})
        if is_loopback(endpoint) and not settings.named_profile:
            # A local cloud needs a signature, but not whose: no credential of the user is sent to it.
            return {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        return {}

    def _open_session(self) -> boto3.Session:
        core = botocore.session.Session()
        core.register_component("data_loader", descriptions())
        # The process's environment may be another identity's by now: what botocore reads from it comes from the settings.
        for variable, option, default in _FILES:
            core.set_config_variable(option, self.settings.environment.get(variable) or default)
        named = self.settings.named_profile
        if not named:
            core.get_component("config_store").set_config_provider("profile", ConstantProvider(None))
        session = boto3.Session(botocore_session=core, profile_name=named)
        # `_keys` reads the keys of the environment.
        core.get_component("credential_provider").remove("env")
        return session


def _note_request(parsed: Mapping[str, Any], **_: object) -> None:
    note_request(parsed.get("ResponseMetadata", {}).get("RequestId"))


def _refusal(error: AuthError, region: str, text: str, code: str) -> AccessDeniedError:
    """Return the error for a region that refuses valid credentials."""
    return AccessDeniedError(
        f"aws {region}: {text}: {error.code}",
        provider="aws",
        region=region,
        code=code,
        vendor_message=error.vendor_message,
        scope="region",
        hint="`aws account enable-region` enables it; exclude= leaves it out",
    )
