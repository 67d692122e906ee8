"""The placement policies of gangs, and the NVLink domains of A4X."""

from typing import Any, Final, NamedTuple

from multicompute.offer import Part
from multicompute.provider_kit.vendor_errors import Place, invalid_request
from multicompute_gcp._reservations import HeldReservation


class _Domain(NamedTuple):
    """An NVLink domain: the topology that a placement policy names, and how many instances it has."""

    topology: str
    instances: int


# https://docs.cloud.google.com/compute/docs/accelerator-optimized-machines#a4x-series: 18 instances with 4 GPUs each share an NVLink domain of
# 72. compute.v1 (ResourcePolicyGroupPlacementPolicy.gpuTopology): "the shape of the GPU slice, in slice based GPU families eg. A4X".
_DOMAINS: Final = {"a4x-": _Domain("1x72", 18)}


def _domain(instance_type: str) -> _Domain | None:
    return next((domain for prefix, domain in _DOMAINS.items() if instance_type.startswith(prefix)), None)


def group_placement(instance_type: str) -> dict[str, Any]:
    """Return the `groupPlacementPolicy` of gangs of this machine type."""
    domain, policy = _domain(instance_type), {"collocation": "COLLOCATED"}
    return policy if domain is None else {**policy, "gpu_topology": domain.topology}


def needs_policy(held: HeldReservation, instance_type: str) -> bool:
    """Return whether instances of a reservation need a placement policy of ours.

    Google places the instances of a reservation close together by itself, except for those that share an NVLink domain. A policy that
    the reservation has is used in place of ours.
    """
    return held.is_bound and not held.policies and _domain(instance_type) is not None


def check_domain(part: Part, place: Place) -> None:
    """Refuse more instances than an NVLink domain has.

    Raises:
        InvalidRequestError: They would not share a domain.
    """
    domain = _domain(place.instance_type)
    if domain is not None and part.nodes > domain.instances:
        raise invalid_request(
            f"{part.nodes} nodes do not fit into one NVLink domain, which has {domain.instances}",
            code="NvlinkDomain",
            place=place,
            hint=f"ask for at most {domain.instances} nodes, or set interconnect to any",
            scope="type",
        )
