"""Google Cloud: GPU instances of Compute Engine and TPU slices, bought on demand, as spot, as flex-start or from a reservation."""

from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.errors import AuthError
from multicompute.provider import Configured, LifetimeLimit, Settings, TagLimits
from multicompute_gcp._labels import KEY_PATTERN
from multicompute_gcp._limits import MAX_FLEX_START, MAX_RUN

if TYPE_CHECKING:
    from multicompute.provider import LocalCloud, Provider


class GcpPlugin:
    """The plug-in object of Google Cloud.

    Importing it loads neither Google's packages nor pydantic: every command imports it, and most need neither.
    """

    name = "gcp"
    extra = "gcp"
    modules: tuple[str, ...] = ("google.auth", "google.cloud.compute_v1", "google.cloud.tpu_v2", "requests")
    can_launch = True
    tables = Path(__file__).parent / "data"
    # https://cloud.google.com/compute/docs/labeling-resources: 64 labels, five of which are ours; keys and values of up to 63 characters.
    tag_limits = TagLimits(
        count=59, key_length=63, value_length=63, reserved_prefixes=("goog",), key_pattern=KEY_PATTERN
    )
    # https://cloud.google.com/compute/vm-instance-pricing: vCPUs, memory and GPUs for at least a minute, then by the second.
    # TPUs by the second while READY (https://cloud.google.com/tpu/pricing), without a minimum: a slice that is deleted in its first minute
    # may cost less than is counted here.
    billing_minimum = timedelta(minutes=1)
    # Flex-start, of machines and of TPU slices: up to seven days (https://cloud.google.com/compute/docs/instances/about-flex-start-vms,
    # https://cloud.google.com/tpu/docs/request-using-flex-start). A machine with an expiry gets a run duration, of up to 120 days
    # (https://cloud.google.com/compute/docs/instances/limit-vm-runtime). TPU slices ("v5p-128"), unless they are flex-start, have none.
    lifetime_limits = (
        LifetimeLimit(MAX_FLEX_START, purchases=("flex_start",), without_expiry=True),
        LifetimeLimit(MAX_RUN, families=("[!v]*",)),
    )

    @cached_property
    def setting_names(self) -> tuple[str, ...]:
        """The keys that `[providers.gcp]` may have."""
        from multicompute.provider_kit.settings import setting_names
        from multicompute_gcp._settings import GcpSettings

        return setting_names(GcpSettings)

    def configured(self, settings: Settings) -> Configured:
        """Return whether credentials and a project, or a local endpoint, are found, from variables and files only, without a network call.

        Raises:
            ConfigError: a setting is malformed, or an endpoint is plain http to another machine.
        """
        from multicompute_gcp._settings import configured

        return configured(settings)

    def open(self, settings: Settings) -> "Provider":
        """Open the provider; its clients are made when they are first needed.

        Raises:
            AuthError: no credentials and no local endpoint were found, or no project is named.
            ConfigError: a setting is malformed, or an endpoint is plain http to another machine.
        """
        found = self.configured(settings)
        if not found.ok:
            hint = "`gcloud auth application-default login`, and set GOOGLE_CLOUD_PROJECT"
            raise AuthError(f"gcp: {found.why}", provider=self.name, hint=hint)
        from multicompute_gcp._provider import GcpProvider

        return GcpProvider(settings)

    def local(self) -> "LocalCloud | None":
        """Return a local cloud on 127.0.0.1 that has not been started."""
        from multicompute_gcp.local import GcpLocalCloud

        cloud: LocalCloud = GcpLocalCloud()
        return cloud


plugin = GcpPlugin()
