"""Google Cloud: GPU instances of Compute Engine and TPU slices, bought on demand, as spot, as flex-start or from a reservation."""

from datetime import timedelta
from pathlib import Path

from multicompute.provider import LifetimeLimit, TagLimits
from multicompute.provider_kit.plugin import Plugin
from multicompute_gcp._limits import MAX_FLEX_START, MAX_RUN

plugin = Plugin(
    name="gcp",
    extra="gcp",
    modules=("google.auth", "google.cloud.compute_v1", "google.cloud.tpu_v2", "requests"),
    tables=Path(__file__).parent / "data",
    # https://cloud.google.com/compute/docs/labeling-resources: 64 labels, five of which are ours. What a label can't contain, or is
    # longer than its 63 characters, is kept in the description or the metadata.
    tag_limits=TagLimits(count=59, key_length=128, value_length=256, reserved_prefixes=("goog",)),
    # https://cloud.google.com/compute/vm-instance-pricing: vCPUs, memory and GPUs for at least a minute, then by the second.
    # TPUs by the second while READY (https://cloud.google.com/tpu/pricing), without a minimum: a slice that is deleted in its first minute
    # may cost less than is counted here.
    billing_minimum=timedelta(minutes=1),
    # No vendor page states it; smaller types take less, types with eight GPUs several times as long.
    usual_launch=timedelta(minutes=1),
    # Flex-start, of machines and of TPU slices: up to seven days (https://cloud.google.com/compute/docs/instances/about-flex-start-vms,
    # https://cloud.google.com/tpu/docs/request-using-flex-start). A machine with an expiry gets a run duration, of up to 120 days
    # (https://cloud.google.com/compute/docs/instances/limit-vm-runtime). TPU slices ("v5p-128", "tpu7x-64"), unless they are flex-start, have none.
    lifetime_limits=(
        LifetimeLimit(MAX_FLEX_START, purchases=("flex_start",), without_expiry=True),
        LifetimeLimit(MAX_RUN, families=("[!vt]*", "t[!p]*")),
    ),
    settings="multicompute_gcp._settings:GcpSettings",
    provider="multicompute_gcp._provider:GcpProvider",
    local_cloud="multicompute_gcp.local:GcpLocalCloud",
    sign_in="`gcloud auth application-default login`, and set GOOGLE_CLOUD_PROJECT",
)
