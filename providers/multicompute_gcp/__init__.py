"""Google Cloud: GPU machines of Compute Engine and TPU slices, bought on demand, as spot, as flex-start or from a reservation."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.errors import AuthError
from multicompute.provider import Configured, Settings, TagLimits
from multicompute_gcp._access import SETTING_NAMES, look_for_access
from multicompute_gcp._labels import KEY_PATTERN

if TYPE_CHECKING:
    from multicompute.provider import LocalCloud, Provider


class GcpPlugin:
    """The plug-in object of Google Cloud; it imports without any of Google's packages."""

    name = "gcp"
    extra = "gcp"
    modules: tuple[str, ...] = ("google.auth", "google.cloud.compute_v1", "google.cloud.tpu_v2", "requests")
    can_launch = True
    tables = Path(__file__).parent / "data"
    # https://cloud.google.com/compute/docs/labeling-resources: 64 labels, five of them ours, keys and values of up to 63 characters.
    tag_limits = TagLimits(
        count=59, key_length=63, value_length=63, reserved_prefixes=("goog",), key_pattern=KEY_PATTERN
    )
    setting_names = SETTING_NAMES
    # https://cloud.google.com/compute/vm-instance-pricing: vCPUs, memory and GPUs for a minute at least, then by the second. TPUs by the second while READY
    # (https://cloud.google.com/tpu/pricing), without a word of a minimum: a slice that ends in its first minute may cost less than is counted here.
    billing_minimum = timedelta(minutes=1)

    def configured(self, settings: Settings) -> Configured:
        """Whether credentials and a project, or a local endpoint, are found; looks at variables and files only, and asks nobody."""
        return look_for_access(settings)

    def open(self, settings: Settings) -> "Provider":
        """Open the provider; its clients are made when they are first needed.

        Raises:
            AuthError: no credentials and no local endpoint were found, or no project is named.
            ConfigError: a setting is malformed, or an endpoint is plain http on another machine.
        """
        found = self.configured(settings)
        if not found.ok:
            hint = "`gcloud auth application-default login`, and set GOOGLE_CLOUD_PROJECT"
            raise AuthError(f"gcp: {found.why}", provider=self.name, hint=hint)
        from multicompute_gcp._provider import GcpProvider

        return GcpProvider(settings)

    def local(self) -> "LocalCloud | None":
        """A local cloud on 127.0.0.1, not started yet."""
        from multicompute_gcp.local import GcpLocalCloud

        cloud: LocalCloud = GcpLocalCloud()
        return cloud


plugin = GcpPlugin()
