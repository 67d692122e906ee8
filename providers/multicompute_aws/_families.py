"""Families of instance types: the vCPU quota that each counts against, and what those on the Xen hypervisor lack."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from multicompute.offer import Purchase


@dataclass(frozen=True, slots=True)
class Family:
    """A vCPU quota of EC2.

    Attributes:
        code: The quota's code in Service Quotas, the same in every account and region.
        name: What the console calls it.
        purchase: How instances are bought that count against it.
        types: Globs on the names of the instance types.
    """

    code: str
    name: str
    purchase: Purchase
    types: tuple[str, ...]

    def covers(self, instance_type: str) -> bool:
        """Return whether `instance_type` counts against it."""
        return any(fnmatchcase(instance_type, glob) for glob in self.types)


# "Standard" is every family of these letters. A digit follows, so "i" does not match "inf", nor "d" "dl", nor "m" "mac".
_STANDARD: Final = (
    *(f"{letter}[0-9]*" for letter in "acdhimrtz"),
    "im[0-9]*",
    "is[0-9]*",
)

# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html. Capacity blocks have quotas of their own. No spot quota
# of P6 is documented by name, so none is listed here.
FAMILIES: Final = (
    Family("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", "on_demand", _STANDARD),
    Family("L-417A185B", "Running On-Demand P instances", "on_demand", ("p*",)),
    Family("L-DB2E81BA", "Running On-Demand G and VT instances", "on_demand", ("g*", "vt*")),
    Family("L-2C3B7624", "Running On-Demand Trn instances", "on_demand", ("trn*",)),
    Family("L-1945791B", "Running On-Demand Inf instances", "on_demand", ("inf*",)),
    Family("L-6E869C2A", "Running On-Demand DL instances", "on_demand", ("dl*",)),
    Family("L-74FC7D96", "Running On-Demand F instances", "on_demand", ("f*",)),
    Family("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", "spot", _STANDARD),
    Family("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests", "spot", ("p2*", "p3*", "p4*")),
    Family("L-C4BD4855", "All P5 Spot Instance Requests", "spot", ("p5*",)),
    Family("L-3819A6DF", "All G and VT Spot Instance Requests", "spot", ("g*", "vt*")),
    Family("L-6B0D517C", "All Trn Spot Instance Requests", "spot", ("trn*",)),
    Family("L-B5D1601B", "All Inf Spot Instance Requests", "spot", ("inf*",)),
    Family("L-85EED4F7", "All DL Spot Instance Requests", "spot", ("dl*",)),
    Family("L-88CF9481", "All F Spot Instance Requests", "spot", ("f*",)),
)


def family_of(instance_type: str, purchase: Purchase) -> Family | None:
    """Return the quota that `instance_type` counts against when it is bought this way, or None if none is known."""
    return next((item for item in FAMILIES if item.purchase == purchase and item.covers(instance_type)), None)


def console_page(code: str, region: str) -> str:
    """Return the console's page on which more of a quota is requested."""
    return f"https://{region}.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{code}"


# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-nitro-instances.html lists all others; bare metal sizes have no hypervisor.
_XEN: Final = frozenset(
    {
        *("c1", "c3", "c4", "d2", "f1", "g2", "g3", "g3s", "h1", "i2", "i3", "m1", "m2", "m3", "m4", "p2", "p3"),
        *("r3", "r4", "t1", "t2", "x1", "x1e"),
    }
)


def is_xen(instance_type: str) -> bool:
    """Return whether instances of a type run on the Xen hypervisor.

    Their metadata may show a changed tag only after a stop and a start: the EC2 user guide has promised the change on a running
    instance for Nitro types only.
    """
    family, _, size = instance_type.partition(".")
    return family in _XEN and not size.startswith("metal")
