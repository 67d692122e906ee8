"""Chooses the machine image of a node, and reads what a launch needs to know about it."""

from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from multicompute.offer import InstanceType
from multicompute.provider_kit.vendor_errors import Place, invalid_request, unavailable_here
from multicompute_aws._errors import code_of, is_from_moto, lacking_in_moto, member, translate_errors
from multicompute_aws._session import Clients

# AWS's base images have the driver, CUDA, EFA and a container runtime. Parameter names: https://docs.aws.amazon.com/dlami/latest/devguide
# (release notes of "Deep Learning Base OSS Nvidia Driver GPU AMI") and https://awsdocs-neuron.readthedocs-hosted.com (Neuron DLAMI).
_NVIDIA: Final = "/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
_NEURON: Final = "/aws/service/neuron/dlami/base/ubuntu-24.04/latest/image_id"
_PLAIN: Final = "/aws/service/canonical/ubuntu/server/24.04/stable/current/{arch}/hvm/ebs-gp3/ami-id"
_CANONICAL_ARCH: Final = {"x86_64": "amd64", "arm64": "arm64"}

# Accelerators for which none of AWS's current images has a driver: the open NVIDIA driver supports Turing and later, Neuron Inferentia2
# and later.
_WITHOUT_IMAGE: Final = frozenset(
    {
        *("k80", "m60", "v100", "v100-32gb", "radeon-pro-v520", "gaudi", "cloud-ai-100"),
        *("fpga-vu9p", "fpga-vu47p", "alveo-u30", "inferentia1"),
    }
)
# Fractions of a GPU need NVIDIA's licensed GRID driver, which the base images do not have.
_FRACTIONAL_FAMILIES: Final = frozenset({"g6f", "gr6f"})


@dataclass(frozen=True, slots=True)
class Image:
    """The properties of a machine image in a region that a launch needs.

    Attributes:
        id: The AMI.
        root_device: The name of its root device.
        size_gib: The least size of the root volume.
        other_volumes: Its further volumes, as device name and whether they are deleted with the instance.
    """

    id: str
    root_device: str
    size_gib: int
    other_volumes: tuple[tuple[str, bool], ...] = ()


class Images:
    """The images of nodes, each read once per region and process, so a repeated launch gets the same one."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        # By region, and the id that the user names or the parameter with the default one.
        self._images: dict[tuple[str, str], Image] = {}

    def find(self, instance: InstanceType, place: Place, *, named: str | None) -> Image:
        """Return the image for `instance` in the region of `place`; `named` is the user's choice.

        Raises:
            InvalidRequestError: The named image is not in this region, or no image of AWS has a driver for the type.
            CapacityError: AWS publishes no image of this kind in this region.
        """
        source = named or default_parameter(instance)
        key = (place.region, source)
        if key not in self._images:
            self._images[key] = self._describe(named or self._parameter(source, place), place)
        return self._images[key]

    def _parameter(self, name: str, place: Place) -> str:
        ssm = self._clients.ssm(place.region)
        with translate_errors("GetParameter", place):
            try:
                return str(member(ssm.get_parameter(Name=name), "Parameter", place)["Value"])
            except ClientError as error:
                if code_of(error) != "ParameterNotFound":
                    raise
                if is_from_moto(error.response.get("ResponseMetadata", {})):
                    raise lacking_in_moto(
                        "GetParameter", place, "the parameter of the image; image= names one"
                    ) from error
                raise unavailable_here(
                    f"no image in this region under {name}",
                    code="ParameterNotFound",
                    place=place,
                    scope="region",
                    hint="name one with image=, or try another region",
                ) from error

    def _describe(self, image_id: str, place: Place) -> Image:
        with translate_errors("DescribeImages", place):
            images = self._clients.ec2(place.region).describe_images(ImageIds=[image_id])["Images"]
        if not images:
            raise invalid_request(
                f"the account has no access to an image {image_id}",
                code="InvalidAMIID.NotFound",
                place=place,
                scope="region",
                hint="an image id is valid in one region only; image= can be a mapping of regions to ids",
            )
        return _image(image_id, dict(images[0]))


def default_parameter(instance: InstanceType) -> str:
    """Return the public SSM parameter with the id of the image for `instance`.

    Raises:
        InvalidRequestError: None of AWS's current images has a driver for its accelerator.
    """
    family = instance.name.partition(".")[0]
    if not instance.accelerator:
        return _PLAIN.format(arch=_CANONICAL_ARCH.get(instance.arch, "amd64"))
    if instance.accelerator in _WITHOUT_IMAGE or family in _FRACTIONAL_FAMILIES:
        raise invalid_request(
            f"none of AWS's current base images has a driver for {instance.accelerator}",
            code="NoDefaultImage",
            place=Place("aws", instance_type=instance.name),
            scope="type",
            hint="name an image that has one: image=",
        )
    if instance.accelerator.startswith(("trainium", "inferentia")):
        return _NEURON
    return _NVIDIA.format(arch=instance.arch)


def _image(image_id: str, described: dict[str, Any]) -> Image:
    root = str(described.get("RootDeviceName") or "/dev/sda1")
    size, others = 0, []
    for mapping in described.get("BlockDeviceMappings", ()):
        ebs = mapping.get("Ebs")
        if ebs is None:
            continue
        if mapping["DeviceName"] == root:
            size = int(ebs.get("VolumeSize", 0))
        else:
            others.append((str(mapping["DeviceName"]), bool(ebs.get("DeleteOnTermination", True))))
    return Image(image_id, root, size, tuple(others))
