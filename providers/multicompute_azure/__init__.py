"""Microsoft Azure: scale sets in every public region, bought on demand, as spot or from a capacity reservation."""

from datetime import timedelta
from pathlib import Path

from multicompute.provider import TagLimits
from multicompute.provider_kit.plugin import Plugin
from multicompute_azure._tags import KEY_PATTERN

plugin = Plugin(
    name="azure",
    extra="azure",
    modules=("azure.mgmt.compute", "azure.mgmt.network", "azure.mgmt.resource", "azure.identity"),
    tables=Path(__file__).parent / "data",
    # https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources: 50 tags; keys of 512, values of
    # 256 characters. Six are ours, and Compute adds the creation time of a scale set's profile ("This value will be added to VMSS Flex VM
    # tags": the SDK's `VirtualMachineScaleSetVMProfile.time_created`).
    tag_limits=TagLimits(
        count=43,
        key_length=512,
        value_length=256,
        reserved_prefixes=("azure", "microsoft", "windows"),
        key_pattern=KEY_PATTERN,
    ),
    # By the second, and since 2025-06-01 for 300 seconds at least, according to the accepted answer on Microsoft's own forum
    # (https://learn.microsoft.com/answers/questions/2259765). The price page has no minimum; the more expensive of the two is assumed.
    billing_minimum=timedelta(minutes=5),
    # No vendor page states it; smaller types take less, types with eight GPUs several times as long.
    usual_launch=timedelta(minutes=2),
    # "Virtual Machine Scale Sets and placement groups": a single placement group, which InfiniBand needs, has 100 machines.
    fabric_limits={"infiniband": 100},
    settings="multicompute_azure._settings:AzureSettings",
    provider="multicompute_azure._provider:AzureProvider",
    local_cloud="multicompute_azure.local:AzureLocalCloud",
    # Their drivers are in no image of Microsoft's: GRID and Radeon Pro, FPGA tools, Grace, confidential VMs. `_image` refuses them.
    image_required=(
        "Standard_N[VGP][0-9]*",
        "Standard_NC*ads_A10_v4",
        "Standard_NC*_RTXPRO6000*",
        "Standard_ND*_GB[0-9]*",
        "Standard_NCC*",
    ),
    sign_in="`az login`, or set AZURE_SUBSCRIPTION_ID and AZURE_CLIENT_ID",
)
