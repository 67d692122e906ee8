"""The Azure provider keeps every promise of the seam: the real SDK, over HTTP, against the local cloud."""

from collections.abc import Iterator
from datetime import date

import pytest

from multicompute.offer import InstanceType, Quote
from multicompute.provider import Settings
from multicompute.testing import FailureKind, FakeClock, LocalCloudHarness, ProviderConformance, Refusal, running
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

SIZE = "Standard_ND96isr_H100_v5"
TYPE = InstanceType("azure", SIZE, "h100", 8, 80.0, vcpus=96, memory_gib=1900, fabric="infiniband")
REFUSALS = {
    FailureKind.CAPACITY: Refusal(
        "SkuNotAvailable", 409, f"Following SKUs have failed for Capacity Restrictions: {SIZE}"
    ),
    FailureKind.NOT_OFFERED: Refusal(
        "InvalidParameter", 400, f"The requested VM size {SIZE} is not available in the current region."
    ),
    FailureKind.QUOTA: Refusal(
        "OperationNotAllowed",
        409,
        "Operation could not be completed as it results in exceeding approved standardNDSH100v5Family Cores quota.",
    ),
    FailureKind.THROTTLED: Refusal("TooManyRequests", 429, "The request is being throttled."),
    FailureKind.TRANSIENT: Refusal("InternalServerError", 500, "An unexpected error occurred."),
    # Twice: after the first rejection the credentials are read again, and the call is repeated.
    FailureKind.AUTH: Refusal("ExpiredAuthenticationToken", 401, "The access token expiry is in the past.", times=2),
    FailureKind.DENIED: Refusal(
        "AuthorizationFailed", 403, "The client does not have authorization to perform action."
    ),
    FailureKind.INVALID: Refusal("InvalidParameter", 400, "The value of a parameter is invalid."),
    FailureKind.UNKNOWN: Refusal("SomethingNobodyHasHeardOf", 400, "It is what it is."),
}


class TestAzureProvider(ProviderConformance):
    provider_name = "azure"

    @pytest.fixture
    def harness(self) -> Iterator[LocalCloudHarness]:
        clock = FakeClock()
        with running(AzureLocalCloud(clock=clock)) as cloud:
            other = cloud.add_account("00000000-0000-0000-0000-00000000b0b0")
            values = {"endpoint_url": cloud.endpoint_url, "subscription_id": cloud.subscription_id}
            yield LocalCloudHarness(
                cloud=cloud,
                provider=AzureProvider(Settings(values=values, environment=cloud.environment), clock=clock),
                clock=clock,
                instance_type=TYPE,
                zones={"eastus": ("eastus-1", "eastus-2"), "westus2": ("westus2-1", "westus2-2")},
                quote=Quote(98.32, date(2026, 6, 18), "test"),
                launch="virtualMachineScaleSets.createOrUpdate",
                refusals=REFUSALS,
                page_nodes=250,
                other_account=lambda: AzureProvider(Settings({"endpoint_url": cloud.endpoint_url}, other), clock=clock),
            )
