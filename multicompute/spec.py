"""The arguments of a request, checked and normalised once."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import Field, WithJsonSchema

from multicompute.arguments import (
    MAX_TTL,
    Clouds,
    Count,
    DataSources,
    Duration,
    Hours,
    Image,
    LostHours,
    Name,
    OptionalDuration,
    Script,
    Size,
    Tags,
    Text,
    Texts,
    Ttl,
    Usd,
    Workload,
    shown_path,
)
from multicompute.errors import SpecError
from multicompute.fields import Argument, Form, ParsedModel, Relaxation, in_json
from multicompute.node import Event

if TYPE_CHECKING:
    from typing import Unpack

    from multicompute.cluster_requests import RequestArguments

SSH_KEY_AUTO: Final = "auto"
"""The value of `ssh_key` that has a key pair made and port 22 opened at the launch."""
_PUBLIC_KEY: Final = (
    r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[A-Za-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]*)?"
)


def _progress(value: Any, name: str) -> Any:
    if not isinstance(value, bool) and not callable(value):
        raise SpecError(f"{name}={value!r}: must be True, False or a function")
    return value


Progress = Annotated[
    bool | Callable[[Event], None],
    WithJsonSchema({"type": "boolean"}),
    Form(_progress, "bool | Callable[[Event], None]", ""),
]


class ClusterSpec(ParsedModel):
    """The arguments of a request, checked and normalised.

    A frozen pydantic model: it can be a field of your own models, and has a JSON schema. Values that are wrong raise
    `SpecError`, from every constructor.

    Example:
        >>> spec = ClusterSpec(gpus=64, type="h100", regions=["eu"], ttl="12h")
        >>> spec.type, spec.ttl
        (('h100',), datetime.timedelta(seconds=43200))
    """

    gpus: Annotated[
        Count | None,
        Field(description="Total number of accelerators: GPUs, TPU chips, Trainium chips and so on."),
    ] = None
    type: Annotated[
        Texts,
        Field(
            description='Accelerator ("h100"), TPU slice ("v5p-128") or exact instance type ("p5.48xlarge"); a list '
            "means any of them."
        ),
        Argument(metavar="TYPE"),
    ] = ()
    workload: Annotated[
        Workload | None,
        Field(
            description="What the cluster is for: Training, Finetuning or Inference of `multicompute.sizing`, or a .toml or .json file "
            "with its arguments; the plan then finds how many of which accelerator do it at the lowest cost."
        ),
        Argument(identity="if set"),
    ] = None
    deadline: Annotated[
        Duration | None,
        Field(description='Time in which the workload must be done, such as "30d"; a year if omitted.'),
        Argument(identity="if set", relaxed=Relaxation(to=None, rank=21, limit="maximum")),
    ] = None
    order: Annotated[
        Literal["price", "given"],
        Field(
            description='Which offers to try first: the cheapest ("price"), or every offer of the first type before '
            'those of the second ("given").'
        ),
    ] = "price"
    reservations: Annotated[
        Texts,
        Field(description="Ids of capacity reservations, capacity blocks or TPU reservations to use first."),
        Argument(flag="--reservation", metavar="ID"),
    ] = ()
    reservations_only: Annotated[
        bool,
        Field(description="Use the reservations only, and buy no other capacity."),
        Argument(identity="if set", relaxed=Relaxation(to=False, rank=17)),
    ] = False
    name: Annotated[
        Name | None,
        Field(
            description="Name of the cluster, unique among live clusters: 2 to 40 characters of a-z, 0-9 and '-'; "
            "generated if omitted."
        ),
        Argument(identity=False),
    ] = None
    nodes: Annotated[
        Count | None,
        Field(description="Exact number of nodes."),
        Argument(relaxed=Relaxation(to=None, rank=4)),
    ] = None
    gpus_per_node: Annotated[
        Count | None,
        Field(description="Exact number of accelerators on each node."),
        Argument(relaxed=Relaxation(to=None, rank=3)),
    ] = None
    allow_surplus: Annotated[
        bool,
        Field(
            description="Also use offers with over a quarter more accelerators than `gpus`; you pay for all of them."
        ),
        Argument(identity="if set", relaxed=Relaxation(to=True, rank=18)),
    ] = False
    min_gpu_memory: Annotated[
        Size | None,
        Field(description='Minimum memory per accelerator, such as "80GiB"; a plain number is GiB.'),
        Argument(relaxed=Relaxation(to=None, rank=5, limit="minimum")),
    ] = None
    vcpus: Annotated[
        Count | None,
        Field(description="Minimum number of vCPUs on each node."),
        Argument(relaxed=Relaxation(to=None, rank=6, limit="minimum")),
    ] = None
    memory: Annotated[
        Size | None,
        Field(description='Minimum memory on each node, such as "1TiB"; a plain number is GiB.'),
        Argument(relaxed=Relaxation(to=None, rank=7, limit="minimum")),
    ] = None
    spot: Annotated[
        bool | Literal["prefer"],
        Field(description='Use spot capacity only; "prefer" ranks spot and on-demand offers together.'),
        Argument(relaxed=Relaxation(to="prefer", rank=8)),
    ] = False
    flex_start: Annotated[
        bool,
        Field(description="Also use capacity that a cloud sells through a queue, which may start later."),
        Argument(relaxed=Relaxation(to=True, rank=9)),
    ] = False
    estimates: Annotated[
        bool,
        Field(description="Also use offers whose price is only an estimate."),
        Argument(relaxed=Relaxation(to=True, rank=11)),
    ] = True
    clouds: Annotated[
        Clouds | None,
        Field(description="Providers to use, by name; every configured provider if omitted."),
        Argument(flag="--cloud", relaxed=Relaxation(to=None, rank=1)),
    ] = None
    regions: Annotated[
        Texts,
        Field(
            description='Regions or zones to use: globs ("us-*", "us-east-1[ab]"), globs of one provider '
            '("PROVIDER:us-*") or residencies ("eu"); any region if omitted.'
        ),
        Argument(flag="--region", metavar="REGION|ZONE", relaxed=Relaxation(to=(), rank=10)),
    ] = ()
    exclude: Annotated[
        Texts,
        Field(description="Regions and zones (in the same forms) and instance types not to use."),
        Argument(metavar="REGION|ZONE|TYPE", relaxed=Relaxation(to=(), rank=2)),
    ] = ()
    placement: Annotated[
        Literal["zone", "region", "cloud", "any"],
        Field(description="How far apart the nodes may be: in one zone, one region, one cloud, or any."),
        Argument(relaxed=Relaxation(to="any", rank=15)),
    ] = "zone"
    interconnect: Annotated[
        Literal["auto", "any", "rdma"],
        Field(
            description='Network between nodes: "rdma" requires an RDMA fabric, "any" does not, "auto" does for '
            "accelerators that are built to be linked."
        ),
        Argument(relaxed=Relaxation(to="any", rank=14)),
    ] = "auto"
    max_price: Annotated[
        Usd | None,
        Field(description="Maximum price in USD per accelerator-hour."),
        Argument(relaxed=Relaxation(to=None, rank=12, limit="maximum")),
    ] = None
    max_hourly: Annotated[
        Usd | None,
        Field(description="Maximum price in USD per hour for the cluster."),
        Argument(relaxed=Relaxation(to=None, rank=13, limit="maximum")),
    ] = None
    budget: Annotated[
        Usd | None,
        Field(description="Maximum cost in USD over the cluster's life; at this cost the cluster is terminated."),
        Argument(relaxed=Relaxation(to=None, rank=20, limit="maximum")),
    ] = None
    ttl: Annotated[
        Ttl,
        Field(
            description='Time after which the cluster is terminated, such as "90m", "12h" or "7d"; "none" for no limit; '
            "if omitted, the configured `default_ttl`, or the deadline of a workload and a tenth more if that is longer."
        ),
    ] = "default"
    hours: Annotated[
        Hours | None,
        Field(
            description="For how many hours the cluster is expected to run, to rank offers by total cost; if omitted, its ttl, and "
            "one hour for a model that is served."
        ),
        Argument(identity="if set"),
    ] = None
    data: Annotated[
        DataSources,
        Field(
            description='Data that the cluster needs, each as URL, place and size ("s3://bucket/tokens", "PROVIDER:REGION", '
            '"20TiB"): offers rank by total cost with its transfer to their region, once, at list egress prices.'
        ),
        Argument(identity="if set", relaxed=Relaxation(to=(), rank=19)),
    ] = ()
    interruption_cost_hours: Annotated[
        LostHours,
        Field(
            description="Hours of work that a spot node loses at each interruption, to rank spot offers by price and expected "
            "cost of lost work: interruptions per hour x these hours x price."
        ),
        Argument(identity="if set"),
    ] = 0.0
    strict_ttl: Annotated[
        bool,
        Field(
            description="Reject offers that a cloud terminates before the ttl; otherwise they rank behind the others and "
            "the cluster expires earlier."
        ),
        Argument(identity="if set", relaxed=Relaxation(to=False, rank=16)),
    ] = False
    idle_timeout: Annotated[
        OptionalDuration,
        Field(
            description='Terminate the cluster after all accelerators were idle for this long, such as "30m", where '
            "the cloud measures utilization."
        ),
    ] = None
    disk: Annotated[
        Size | None,
        Field(
            description='Size of the boot disk of each node, such as "200GiB"; a plain number is GiB; the provider\'s '
            "default if omitted."
        ),
    ] = None
    image: Annotated[
        Image | None,
        Field(
            description="Id of the machine image, or a mapping of clouds or regions to ids, whose other places are then "
            "not used; the provider's default if omitted."
        ),
        Argument(),
    ] = None
    setup: Annotated[
        Script | None,
        Field(
            description="Shell script that runs as root at the first boot: a file or, in Python, also its text.",
            repr=False,
        ),
        Argument(metavar="FILE", text_flag="--setup-text"),
    ] = None
    ssh_key: Annotated[
        Text | None,
        Field(
            description='File with the OpenSSH public key that may log in, or "auto" for a new key pair; READY then means that SSH '
            "answers; if omitted, a key pair is made, and port 22 is opened when something is first run."
        ),
        Argument(metavar="FILE"),
    ] = None
    private: Annotated[bool, Field(description="Give the nodes no public address.")] = False
    tags: Annotated[
        Tags,
        Field(description="Tags to set on every resource."),
        Argument(flag="--tag"),
    ] = Field(default_factory=dict)
    wait: Annotated[
        bool,
        Field(description="Wait until the cluster is READY; otherwise return once a cloud has accepted the launch."),
        Argument(identity=False),
    ] = True
    timeout: Annotated[
        Duration,
        Field(description='Tear down and fail if the cluster is not READY within this time, such as "30m".'),
        Argument(identity=False),
    ] = timedelta(minutes=30)
    attempt_timeout: Annotated[
        OptionalDuration,
        Field(
            description='Time after which an attempt that is not ready counts as a lack of capacity, such as "10m"; '
            "the provider's default if omitted."
        ),
        Argument(identity=False),
    ] = None
    keep_trying: Annotated[
        OptionalDuration,
        Field(
            description="How long to retry all candidates, with back-off, while all of them lack capacity, such as "
            '"2h"; each is tried once if omitted.'
        ),
        Argument(identity=False),
    ] = None
    progress: Annotated[
        Progress | None,
        Field(
            description="Show progress on stderr, or call a function with each event; on a terminal only, if omitted.",
            repr=False,
            exclude=True,
        ),
        Argument(identity=False),
    ] = None

    def __init__(
        self,
        *,
        gpus: int | None = None,
        type: str | Sequence[str] = (),
        **arguments: "Unpack[RequestArguments]",
    ) -> None:
        """Check and normalise the arguments.

        Raises:
            SpecError: An argument is unknown or wrong, or two contradict each other.
        """
        super().__init__(gpus=gpus, type=type, **arguments)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Return a spec with the arguments of a mapping, such as one from JSON or from `to_dict`.

        Raises:
            SpecError: An argument is unknown or wrong, or two contradict each other.
        """
        return cls(**arguments)

    @classmethod
    def _check(cls, values: dict[str, Any]) -> None:
        """Refuse numbers that contradict each other, and compute `gpus` if the others imply it."""
        gpus, nodes, each = values["gpus"], values["nodes"], values["gpus_per_node"]
        _check_workload(values)
        if not values["type"] and not values["reservations"] and values["workload"] is None:
            raise SpecError('type: missing; specify an accelerator such as type="h100", or an instance type')
        if values["reservations_only"] and not values["reservations"]:
            raise SpecError("reservations_only=True: needs reservations, such as reservations=['cr-1']")
        if each is not None:
            if nodes is not None and gpus is None:
                gpus = values["gpus"] = nodes * each
            if gpus is not None and gpus % each:
                near = gpus - gpus % each + each
                raise SpecError(f"gpus={gpus} is not a multiple of gpus_per_node={each}; gpus={near} would be")
            if nodes is not None and gpus != nodes * each:
                raise SpecError(f"nodes={nodes} x gpus_per_node={each} is not gpus={gpus}")
        if nodes is not None and gpus is not None and nodes > gpus:
            raise SpecError(f"nodes={nodes} is more than gpus={gpus}: some nodes would have no accelerator")

    def image_in(self, provider: str, region: str) -> str | None:
        """Return the image for a region: that of the most exact place that names it; None for the provider's default."""
        if self.image is None or isinstance(self.image, str):
            return self.image
        named = [place for place in self.image if is_image_place(place, provider, region)]
        return self.image[max(named, key=lambda place: _exactness(place, provider))] if named else None

    def identity(self) -> dict[str, object]:
        """Return what makes two requests the same request (I6), in JSON form; of the script only its digest."""
        return {name: value for name, value in self.to_public_dict().items() if _is_identity(name, value)}

    def to_dict(self) -> dict[str, object]:
        """Return the spec in JSON form, without `progress`; `ClusterSpec.of` returns the same spec from it."""
        return {name: in_json(value) for name, value in self if name != "progress"}

    def to_public_dict(self) -> dict[str, object]:
        """Return `to_dict` for display and logs: scripts may hold tokens, so `setup` is replaced by its digest."""
        public = self.to_dict()
        if self.setup is not None:
            # Imported here: it takes 10 ms, and few requests have a script.
            from hashlib import sha256

            public["setup"] = f"sha256:{sha256(self.setup.encode()).hexdigest()}"
        return public

    def ssh_public_key(self) -> str | None:
        """Return the line of the public key file that `ssh_key` names, None if it names none or is "auto".

        Raises:
            SpecError: The file does not exist or holds no OpenSSH public key. A private key never leaves this machine.
        """
        if self.ssh_key in (None, SSH_KEY_AUTO):
            return None
        assert self.ssh_key is not None
        try:
            text = Path(self.ssh_key).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise SpecError(f"ssh_key{shown_path(self.ssh_key)}: can't be read: {why}") from error
        if not re.fullmatch(_PUBLIC_KEY, text):
            raise SpecError(
                f"ssh_key{shown_path(self.ssh_key)}: holds no OpenSSH public key",
                hint="name the file that ends in .pub",
            )
        return text

    def ttl_with(self, default: timedelta | None) -> timedelta | None:
        """Return the ttl: that of the spec, else the configured one or, if that is longer, the deadline of its workload and a tenth.

        The deadline counts from when the nodes are ready, and the job may be a little slower than predicted.
        """
        if self.ttl != "default":
            assert not isinstance(self.ttl, str)
            return self.ttl
        if default is None or self.deadline is None:
            return default
        return min(max(default, self.deadline * 11 / 10), MAX_TTL)

    def replace(self, **changes: Any) -> Self:
        """Return the spec with some arguments changed, checked again.

        Raises:
            SpecError: A changed argument is unknown or wrong, or contradicts another.
        """
        return type(self)(**{**dict(self), **changes})


_NOT_WITH_WORKLOAD: Final[Mapping[str, str]] = {
    "nodes": "the plan finds how many; gpus restricts it",
    "reservations": "a job is sized for what is bought; size it, and request as many gpus of the reservation",
    "interruption_cost_hours": "the time that interruptions lose is part of the job",
}
"""Argument -> why it is refused together with a workload."""


def _check_workload(values: Mapping[str, Any]) -> None:
    """Refuse arguments that contradict a workload, and those that need one."""
    workload = values["workload"]
    if workload is None:
        if values["deadline"] is not None:
            raise SpecError("deadline: needs a workload, which says what must be done by then")
        return
    for name, why in _NOT_WITH_WORKLOAD.items():
        if values[name]:
            raise SpecError(f"{name}: not with a workload: {why}", argument=name)
    if values["order"] == "given":
        raise SpecError("order='given': not with a workload, whose plan has the cheapest way to do it first")
    if workload.tokens is None and values["deadline"] is not None:
        raise SpecError(
            "deadline: a model that is served without a number of tokens is never done; give tokens or hours"
        )
    if workload.tokens is not None and values["hours"] is not None:
        raise SpecError("hours: the workload itself says how long it takes", hint="give a deadline instead")


def is_image_place(place: str, provider: str, region: str) -> bool:
    """Return whether a key of a mapping of images names a region: its cloud, or a glob on its name, perhaps after the cloud."""
    cloud, _, glob = place.casefold().rpartition(":")
    return place.casefold() == provider or (cloud in ("", provider) and fnmatchcase(region.casefold(), glob))


def _exactness(place: str, provider: str) -> tuple[bool, bool, int]:
    """Return how exactly a place names regions: a region before a glob, and that before a cloud."""
    return place.casefold() != provider, not any(each in place for each in "*?["), len(place)


def argument_of(name: str) -> Argument:
    """Return what the field of this name states in addition to its type, default and description."""
    stated = (item for item in ClusterSpec.model_fields[name].metadata if isinstance(item, Argument))
    return next(stated, Argument())


def _is_identity(name: str, value: object) -> bool:
    identity = argument_of(name).identity
    return value != in_json(ClusterSpec.model_fields[name].default) if identity == "if set" else identity


@cache
def relaxations() -> dict[str, Relaxation]:
    """Return how NoOfferError may relax each field that can exclude offers, the preferred ones first."""
    found = {name: argument_of(name).relaxed for name in ClusterSpec.model_fields}
    relaxed = {name: relaxation for name, relaxation in found.items() if relaxation is not None}
    return dict(sorted(relaxed.items(), key=lambda item: item[1].rank))
