"""The ways to ask for a cluster, with every argument of a request spelled out.

Written by `python tools/write_requests.py` from the fields of `ClusterSpec`. Change those instead of this file.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict

from multicompute.node import Event
from multicompute.validation import refuse_unknown

if TYPE_CHECKING:
    from multicompute.pending import PendingCluster
    from multicompute.plan import Plan
    from multicompute.spec import ClusterSpec
    from multicompute.workloads import AnyWorkload


class RequestArguments(TypedDict, total=False):
    """The arguments of a request other than the first two, for functions that pass them on."""

    workload: "AnyWorkload | Mapping[str, Any] | str | Path | None"
    deadline: str | timedelta | None
    order: Literal["price", "given"]
    reservations: str | Sequence[str]
    reservations_only: bool
    name: str | None
    nodes: int | None
    gpus_per_node: int | None
    allow_surplus: bool
    min_gpu_memory: str | float | None
    vcpus: int | None
    memory: str | float | None
    spot: bool | Literal["prefer"]
    flex_start: bool
    estimates: bool
    clouds: str | Sequence[str] | None
    regions: str | Sequence[str]
    exclude: str | Sequence[str]
    placement: Literal["zone", "region", "cloud", "any"]
    interconnect: Literal["auto", "any", "rdma"]
    max_price: float | None
    max_hourly: float | None
    budget: float | None
    ttl: str | timedelta | None
    hours: float | None
    data: Sequence[tuple[str, str, str | float]]
    interruption_cost_hours: float
    strict_ttl: bool
    idle_timeout: str | timedelta | None
    disk: str | float | None
    image: str | Mapping[str, str | Mapping[str, str]] | None
    setup: str | Path | None
    ssh_key: str | None
    private: bool
    tags: Mapping[str, str] | None
    wait: bool
    timeout: str | timedelta
    attempt_timeout: str | timedelta | None
    keep_trying: str | timedelta | None
    progress: bool | Callable[[Event], None] | None


def _spec(arguments: dict[str, Any]) -> "ClusterSpec":
    # Imported here: it loads pydantic, which commands that only read the ledger do not need.
    from multicompute.spec import ClusterSpec

    arguments.pop("cls", None)
    return ClusterSpec.of(arguments)


def _plan(spec: "ClusterSpec") -> "Plan":
    from multicompute.engine.planning import plan_now

    return plan_now(spec)


async def _aplan(spec: "ClusterSpec") -> "Plan":
    from multicompute.engine.operation.threads import in_thread

    return await in_thread(lambda: _plan(spec))


class ClusterRequests:
    """The methods of `Cluster` that take a request; `Cluster` carries them out."""

    @classmethod
    def _request(cls, spec: "ClusterSpec") -> Self:
        """Carry out a request; `Cluster` implements it, since this file is generated."""
        raise NotImplementedError

    @classmethod
    def _arequest(cls, spec: "ClusterSpec") -> "PendingCluster[Self]":
        """Carry out a request without blocking the event loop; `Cluster` implements it, since this file is generated."""
        raise NotImplementedError

    @classmethod
    @refuse_unknown
    def request(
        cls,
        gpus: int | None = None,
        type: str | Sequence[str] = (),
        *,
        workload: "AnyWorkload | Mapping[str, Any] | str | Path | None" = None,
        deadline: str | timedelta | None = None,
        order: Literal["price", "given"] = "price",
        reservations: str | Sequence[str] = (),
        reservations_only: bool = False,
        name: str | None = None,
        nodes: int | None = None,
        gpus_per_node: int | None = None,
        allow_surplus: bool = False,
        min_gpu_memory: str | float | None = None,
        vcpus: int | None = None,
        memory: str | float | None = None,
        spot: bool | Literal["prefer"] = False,
        flex_start: bool = False,
        estimates: bool = True,
        clouds: str | Sequence[str] | None = None,
        regions: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        placement: Literal["zone", "region", "cloud", "any"] = "zone",
        interconnect: Literal["auto", "any", "rdma"] = "auto",
        max_price: float | None = None,
        max_hourly: float | None = None,
        budget: float | None = None,
        ttl: str | timedelta | None = "default",
        hours: float | None = None,
        data: Sequence[tuple[str, str, str | float]] = (),
        interruption_cost_hours: float = 0.0,
        strict_ttl: bool = False,
        idle_timeout: str | timedelta | None = None,
        disk: str | float | None = None,
        image: str | Mapping[str, str | Mapping[str, str]] | None = None,
        setup: str | Path | None = None,
        ssh_key: str | None = None,
        private: bool = False,
        tags: Mapping[str, str] | None = None,
        wait: bool = True,
        timeout: str | timedelta = "30m",
        attempt_timeout: str | timedelta | None = None,
        keep_trying: str | timedelta | None = None,
        progress: bool | Callable[[Event], None] | None = None,
    ) -> Self:
        """Launch a cluster, all nodes or none, and return it.

        Tries one candidate after another, cheapest first, in every configured cloud. The same request with the same `name`
        returns the same cluster again. Blocks until the cluster is READY, unless `wait=False`.

        Args:
            gpus: Total number of accelerators: GPUs, TPU chips, Trainium chips and so on.
            type: Accelerator ("h100"), TPU slice ("v5p-128") or exact instance type ("p5.48xlarge"); a list means any
                of them.
            workload: What the cluster is for: Training, Finetuning or Inference of `multicompute.sizing`, or a .toml or
                .json file with its arguments; the plan then finds how many of which accelerator do it at the lowest
                cost.
            deadline: Time in which the workload must be done, such as "30d"; a year if omitted.
            order: Which offers to try first: the cheapest ("price"), or every offer of the first type before those of
                the second ("given").
            reservations: Ids of capacity reservations, capacity blocks or TPU reservations to use first.
            reservations_only: Use the reservations only, and buy no other capacity.
            name: Name of the cluster, unique among live clusters: 2 to 40 characters of a-z, 0-9 and '-'; generated if
                omitted.
            nodes: Exact number of nodes.
            gpus_per_node: Exact number of accelerators on each node.
            allow_surplus: Also use offers with over a quarter more accelerators than `gpus`; you pay for all of them.
            min_gpu_memory: Minimum memory per accelerator, such as "80GiB"; a plain number is GiB.
            vcpus: Minimum number of vCPUs on each node.
            memory: Minimum memory on each node, such as "1TiB"; a plain number is GiB.
            spot: Use spot capacity only; "prefer" ranks spot and on-demand offers together.
            flex_start: Also use capacity that a cloud sells through a queue, which may start later.
            estimates: Also use offers whose price is only an estimate.
            clouds: Providers to use, by name; every configured provider if omitted.
            regions: Regions or zones to use: globs ("us-*", "us-east-1[ab]"), globs of one provider ("PROVIDER:us-*")
                or residencies ("eu"); any region if omitted.
            exclude: Regions and zones (in the same forms) and instance types not to use.
            placement: How far apart the nodes may be: in one zone, one region, one cloud, or any.
            interconnect: Network between nodes: "rdma" requires an RDMA fabric, "any" does not, "auto" does for
                accelerators that are built to be linked.
            max_price: Maximum price in USD per accelerator-hour.
            max_hourly: Maximum price in USD per hour for the cluster.
            budget: Maximum cost in USD over the cluster's life; at this cost the cluster is terminated.
            ttl: Time after which the cluster is terminated, such as "90m", "12h" or "7d"; "none" for no limit; if
                omitted, the configured `default_ttl`, or the deadline of a workload and a tenth more if that is longer.
            hours: For how many hours the cluster is expected to run, to rank offers by total cost; if omitted, its ttl,
                and one hour for a model that is served.
            data: Data that the cluster needs, each as URL, place and size ("s3://bucket/tokens", "PROVIDER:REGION",
                "20TiB"): offers rank by total cost with its transfer to their region, once, at list egress prices.
            interruption_cost_hours: Hours of work that a spot node loses at each interruption, to rank spot offers by
                price and expected cost of lost work: interruptions per hour x these hours x price.
            strict_ttl: Reject offers that a cloud terminates before the ttl; otherwise they rank behind the others and
                the cluster expires earlier.
            idle_timeout: Terminate the cluster after all accelerators were idle for this long, such as "30m", where the
                cloud measures utilization.
            disk: Size of the boot disk of each node, such as "200GiB"; a plain number is GiB; the provider's default if
                omitted.
            image: Id of the machine image, or a mapping of clouds or regions to ids, whose other places are then not
                used; the provider's default if omitted.
            setup: Shell script that runs as root at the first boot: a file or, in Python, also its text.
            ssh_key: File with the OpenSSH public key that may log in, or "auto" for a new key pair; READY then means
                that SSH answers; if omitted, a key pair is made, and port 22 is opened when something is first run.
            private: Give the nodes no public address.
            tags: Tags to set on every resource.
            wait: Wait until the cluster is READY; otherwise return once a cloud has accepted the launch.
            timeout: Tear down and fail if the cluster is not READY within this time, such as "30m".
            attempt_timeout: Time after which an attempt that is not ready counts as a lack of capacity, such as "10m";
                the provider's default if omitted.
            keep_trying: How long to retry all candidates, with back-off, while all of them lack capacity, such as "2h";
                each is tried once if omitted.
            progress: Show progress on stderr, or call a function with each event; on a terminal only, if omitted.

        Raises:
            SpecError: An argument is unknown or wrong, or two contradict each other. No cloud was called.
            NoOfferError: No offer in the catalog meets the request.
            ClusterExists: A live cluster of this name was requested with other arguments.
            CapacityError: No candidate has capacity; lists what was tried. Nothing is left running.
            QuotaError: No candidate is within the account's quota. Nothing is left running.
            AuthError: A cloud does not accept the credentials. Nothing is left running.
            ProviderError: A cloud refused the launch, also as AccessDeniedError or InvalidRequestError. Nothing is left running.
            ProvisionTimeout: The cluster was not READY within `timeout`. Nothing is left running.
            LedgerError: The ledger can't be written; nothing is launched that was not recorded first.
        """
        return cls._request(_spec(locals()))

    @classmethod
    @refuse_unknown
    def arequest(
        cls,
        gpus: int | None = None,
        type: str | Sequence[str] = (),
        *,
        workload: "AnyWorkload | Mapping[str, Any] | str | Path | None" = None,
        deadline: str | timedelta | None = None,
        order: Literal["price", "given"] = "price",
        reservations: str | Sequence[str] = (),
        reservations_only: bool = False,
        name: str | None = None,
        nodes: int | None = None,
        gpus_per_node: int | None = None,
        allow_surplus: bool = False,
        min_gpu_memory: str | float | None = None,
        vcpus: int | None = None,
        memory: str | float | None = None,
        spot: bool | Literal["prefer"] = False,
        flex_start: bool = False,
        estimates: bool = True,
        clouds: str | Sequence[str] | None = None,
        regions: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        placement: Literal["zone", "region", "cloud", "any"] = "zone",
        interconnect: Literal["auto", "any", "rdma"] = "auto",
        max_price: float | None = None,
        max_hourly: float | None = None,
        budget: float | None = None,
        ttl: str | timedelta | None = "default",
        hours: float | None = None,
        data: Sequence[tuple[str, str, str | float]] = (),
        interruption_cost_hours: float = 0.0,
        strict_ttl: bool = False,
        idle_timeout: str | timedelta | None = None,
        disk: str | float | None = None,
        image: str | Mapping[str, str | Mapping[str, str]] | None = None,
        setup: str | Path | None = None,
        ssh_key: str | None = None,
        private: bool = False,
        tags: Mapping[str, str] | None = None,
        wait: bool = True,
        timeout: str | timedelta = "30m",
        attempt_timeout: str | timedelta | None = None,
        keep_trying: str | timedelta | None = None,
        progress: bool | Callable[[Event], None] | None = None,
    ) -> "PendingCluster[Self]":
        """Launch a cluster as `request` does, without blocking the event loop.

        Await the result, or enter it with `async with`, which terminates the cluster after the block. A cancelled task tears down
        what it started.

        Args:
            gpus: Total number of accelerators: GPUs, TPU chips, Trainium chips and so on.
            type: Accelerator ("h100"), TPU slice ("v5p-128") or exact instance type ("p5.48xlarge"); a list means any
                of them.
            workload: What the cluster is for: Training, Finetuning or Inference of `multicompute.sizing`, or a .toml or
                .json file with its arguments; the plan then finds how many of which accelerator do it at the lowest
                cost.
            deadline: Time in which the workload must be done, such as "30d"; a year if omitted.
            order: Which offers to try first: the cheapest ("price"), or every offer of the first type before those of
                the second ("given").
            reservations: Ids of capacity reservations, capacity blocks or TPU reservations to use first.
            reservations_only: Use the reservations only, and buy no other capacity.
            name: Name of the cluster, unique among live clusters: 2 to 40 characters of a-z, 0-9 and '-'; generated if
                omitted.
            nodes: Exact number of nodes.
            gpus_per_node: Exact number of accelerators on each node.
            allow_surplus: Also use offers with over a quarter more accelerators than `gpus`; you pay for all of them.
            min_gpu_memory: Minimum memory per accelerator, such as "80GiB"; a plain number is GiB.
            vcpus: Minimum number of vCPUs on each node.
            memory: Minimum memory on each node, such as "1TiB"; a plain number is GiB.
            spot: Use spot capacity only; "prefer" ranks spot and on-demand offers together.
            flex_start: Also use capacity that a cloud sells through a queue, which may start later.
            estimates: Also use offers whose price is only an estimate.
            clouds: Providers to use, by name; every configured provider if omitted.
            regions: Regions or zones to use: globs ("us-*", "us-east-1[ab]"), globs of one provider ("PROVIDER:us-*")
                or residencies ("eu"); any region if omitted.
            exclude: Regions and zones (in the same forms) and instance types not to use.
            placement: How far apart the nodes may be: in one zone, one region, one cloud, or any.
            interconnect: Network between nodes: "rdma" requires an RDMA fabric, "any" does not, "auto" does for
                accelerators that are built to be linked.
            max_price: Maximum price in USD per accelerator-hour.
            max_hourly: Maximum price in USD per hour for the cluster.
            budget: Maximum cost in USD over the cluster's life; at this cost the cluster is terminated.
            ttl: Time after which the cluster is terminated, such as "90m", "12h" or "7d"; "none" for no limit; if
                omitted, the configured `default_ttl`, or the deadline of a workload and a tenth more if that is longer.
            hours: For how many hours the cluster is expected to run, to rank offers by total cost; if omitted, its ttl,
                and one hour for a model that is served.
            data: Data that the cluster needs, each as URL, place and size ("s3://bucket/tokens", "PROVIDER:REGION",
                "20TiB"): offers rank by total cost with its transfer to their region, once, at list egress prices.
            interruption_cost_hours: Hours of work that a spot node loses at each interruption, to rank spot offers by
                price and expected cost of lost work: interruptions per hour x these hours x price.
            strict_ttl: Reject offers that a cloud terminates before the ttl; otherwise they rank behind the others and
                the cluster expires earlier.
            idle_timeout: Terminate the cluster after all accelerators were idle for this long, such as "30m", where the
                cloud measures utilization.
            disk: Size of the boot disk of each node, such as "200GiB"; a plain number is GiB; the provider's default if
                omitted.
            image: Id of the machine image, or a mapping of clouds or regions to ids, whose other places are then not
                used; the provider's default if omitted.
            setup: Shell script that runs as root at the first boot: a file or, in Python, also its text.
            ssh_key: File with the OpenSSH public key that may log in, or "auto" for a new key pair; READY then means
                that SSH answers; if omitted, a key pair is made, and port 22 is opened when something is first run.
            private: Give the nodes no public address.
            tags: Tags to set on every resource.
            wait: Wait until the cluster is READY; otherwise return once a cloud has accepted the launch.
            timeout: Tear down and fail if the cluster is not READY within this time, such as "30m".
            attempt_timeout: Time after which an attempt that is not ready counts as a lack of capacity, such as "10m";
                the provider's default if omitted.
            keep_trying: How long to retry all candidates, with back-off, while all of them lack capacity, such as "2h";
                each is tried once if omitted.
            progress: Show progress on stderr, or call a function with each event; on a terminal only, if omitted.

        Raises:
            SpecError: An argument is unknown or wrong, or two contradict each other. No cloud was called.
            NoOfferError: No offer in the catalog meets the request.
            ClusterExists: A live cluster of this name was requested with other arguments.
            CapacityError: No candidate has capacity; lists what was tried. Nothing is left running.
            QuotaError: No candidate is within the account's quota. Nothing is left running.
            AuthError: A cloud does not accept the credentials. Nothing is left running.
            ProviderError: A cloud refused the launch, also as AccessDeniedError or InvalidRequestError. Nothing is left running.
            ProvisionTimeout: The cluster was not READY within `timeout`. Nothing is left running.
            LedgerError: The ledger can't be written; nothing is launched that was not recorded first.
        """
        return cls._arequest(_spec(locals()))

    @classmethod
    @refuse_unknown
    async def aplan(
        cls,
        gpus: int | None = None,
        type: str | Sequence[str] = (),
        *,
        workload: "AnyWorkload | Mapping[str, Any] | str | Path | None" = None,
        deadline: str | timedelta | None = None,
        order: Literal["price", "given"] = "price",
        reservations: str | Sequence[str] = (),
        reservations_only: bool = False,
        name: str | None = None,
        nodes: int | None = None,
        gpus_per_node: int | None = None,
        allow_surplus: bool = False,
        min_gpu_memory: str | float | None = None,
        vcpus: int | None = None,
        memory: str | float | None = None,
        spot: bool | Literal["prefer"] = False,
        flex_start: bool = False,
        estimates: bool = True,
        clouds: str | Sequence[str] | None = None,
        regions: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        placement: Literal["zone", "region", "cloud", "any"] = "zone",
        interconnect: Literal["auto", "any", "rdma"] = "auto",
        max_price: float | None = None,
        max_hourly: float | None = None,
        budget: float | None = None,
        ttl: str | timedelta | None = "default",
        hours: float | None = None,
        data: Sequence[tuple[str, str, str | float]] = (),
        interruption_cost_hours: float = 0.0,
        strict_ttl: bool = False,
        idle_timeout: str | timedelta | None = None,
        disk: str | float | None = None,
        image: str | Mapping[str, str | Mapping[str, str]] | None = None,
        setup: str | Path | None = None,
        ssh_key: str | None = None,
        private: bool = False,
        tags: Mapping[str, str] | None = None,
        wait: bool = True,
        timeout: str | timedelta = "30m",
        attempt_timeout: str | timedelta | None = None,
        keep_trying: str | timedelta | None = None,
        progress: bool | Callable[[Event], None] | None = None,
    ) -> "Plan":
        """Return the candidates for a request as `plan` does, without blocking the event loop.

        Args:
            gpus: Total number of accelerators: GPUs, TPU chips, Trainium chips and so on.
            type: Accelerator ("h100"), TPU slice ("v5p-128") or exact instance type ("p5.48xlarge"); a list means any
                of them.
            workload: What the cluster is for: Training, Finetuning or Inference of `multicompute.sizing`, or a .toml or
                .json file with its arguments; the plan then finds how many of which accelerator do it at the lowest
                cost.
            deadline: Time in which the workload must be done, such as "30d"; a year if omitted.
            order: Which offers to try first: the cheapest ("price"), or every offer of the first type before those of
                the second ("given").
            reservations: Ids of capacity reservations, capacity blocks or TPU reservations to use first.
            reservations_only: Use the reservations only, and buy no other capacity.
            name: Name of the cluster, unique among live clusters: 2 to 40 characters of a-z, 0-9 and '-'; generated if
                omitted.
            nodes: Exact number of nodes.
            gpus_per_node: Exact number of accelerators on each node.
            allow_surplus: Also use offers with over a quarter more accelerators than `gpus`; you pay for all of them.
            min_gpu_memory: Minimum memory per accelerator, such as "80GiB"; a plain number is GiB.
            vcpus: Minimum number of vCPUs on each node.
            memory: Minimum memory on each node, such as "1TiB"; a plain number is GiB.
            spot: Use spot capacity only; "prefer" ranks spot and on-demand offers together.
            flex_start: Also use capacity that a cloud sells through a queue, which may start later.
            estimates: Also use offers whose price is only an estimate.
            clouds: Providers to use, by name; every configured provider if omitted.
            regions: Regions or zones to use: globs ("us-*", "us-east-1[ab]"), globs of one provider ("PROVIDER:us-*")
                or residencies ("eu"); any region if omitted.
            exclude: Regions and zones (in the same forms) and instance types not to use.
            placement: How far apart the nodes may be: in one zone, one region, one cloud, or any.
            interconnect: Network between nodes: "rdma" requires an RDMA fabric, "any" does not, "auto" does for
                accelerators that are built to be linked.
            max_price: Maximum price in USD per accelerator-hour.
            max_hourly: Maximum price in USD per hour for the cluster.
            budget: Maximum cost in USD over the cluster's life; at this cost the cluster is terminated.
            ttl: Time after which the cluster is terminated, such as "90m", "12h" or "7d"; "none" for no limit; if
                omitted, the configured `default_ttl`, or the deadline of a workload and a tenth more if that is longer.
            hours: For how many hours the cluster is expected to run, to rank offers by total cost; if omitted, its ttl,
                and one hour for a model that is served.
            data: Data that the cluster needs, each as URL, place and size ("s3://bucket/tokens", "PROVIDER:REGION",
                "20TiB"): offers rank by total cost with its transfer to their region, once, at list egress prices.
            interruption_cost_hours: Hours of work that a spot node loses at each interruption, to rank spot offers by
                price and expected cost of lost work: interruptions per hour x these hours x price.
            strict_ttl: Reject offers that a cloud terminates before the ttl; otherwise they rank behind the others and
                the cluster expires earlier.
            idle_timeout: Terminate the cluster after all accelerators were idle for this long, such as "30m", where the
                cloud measures utilization.
            disk: Size of the boot disk of each node, such as "200GiB"; a plain number is GiB; the provider's default if
                omitted.
            image: Id of the machine image, or a mapping of clouds or regions to ids, whose other places are then not
                used; the provider's default if omitted.
            setup: Shell script that runs as root at the first boot: a file or, in Python, also its text.
            ssh_key: File with the OpenSSH public key that may log in, or "auto" for a new key pair; READY then means
                that SSH answers; if omitted, a key pair is made, and port 22 is opened when something is first run.
            private: Give the nodes no public address.
            tags: Tags to set on every resource.
            wait: Wait until the cluster is READY; otherwise return once a cloud has accepted the launch.
            timeout: Tear down and fail if the cluster is not READY within this time, such as "30m".
            attempt_timeout: Time after which an attempt that is not ready counts as a lack of capacity, such as "10m";
                the provider's default if omitted.
            keep_trying: How long to retry all candidates, with back-off, while all of them lack capacity, such as "2h";
                each is tried once if omitted.
            progress: Show progress on stderr, or call a function with each event; on a terminal only, if omitted.

        Raises:
            SpecError: An argument is unknown or wrong, or two contradict each other.
            NoOfferError: No offer in the catalog meets the request; the error carries the plan.
            CapacityError: All offers that meet the request are excluded by remembered outages.
        """
        return await _aplan(_spec(locals()))


@refuse_unknown
def plan(
    gpus: int | None = None,
    type: str | Sequence[str] = (),
    *,
    workload: "AnyWorkload | Mapping[str, Any] | str | Path | None" = None,
    deadline: str | timedelta | None = None,
    order: Literal["price", "given"] = "price",
    reservations: str | Sequence[str] = (),
    reservations_only: bool = False,
    name: str | None = None,
    nodes: int | None = None,
    gpus_per_node: int | None = None,
    allow_surplus: bool = False,
    min_gpu_memory: str | float | None = None,
    vcpus: int | None = None,
    memory: str | float | None = None,
    spot: bool | Literal["prefer"] = False,
    flex_start: bool = False,
    estimates: bool = True,
    clouds: str | Sequence[str] | None = None,
    regions: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    placement: Literal["zone", "region", "cloud", "any"] = "zone",
    interconnect: Literal["auto", "any", "rdma"] = "auto",
    max_price: float | None = None,
    max_hourly: float | None = None,
    budget: float | None = None,
    ttl: str | timedelta | None = "default",
    hours: float | None = None,
    data: Sequence[tuple[str, str, str | float]] = (),
    interruption_cost_hours: float = 0.0,
    strict_ttl: bool = False,
    idle_timeout: str | timedelta | None = None,
    disk: str | float | None = None,
    image: str | Mapping[str, str | Mapping[str, str]] | None = None,
    setup: str | Path | None = None,
    ssh_key: str | None = None,
    private: bool = False,
    tags: Mapping[str, str] | None = None,
    wait: bool = True,
    timeout: str | timedelta = "30m",
    attempt_timeout: str | timedelta | None = None,
    keep_trying: str | timedelta | None = None,
    progress: bool | Callable[[Event], None] | None = None,
) -> "Plan":
    """Return the candidates for a request, cheapest first, and why every other offer was left out.

    Calls no cloud. `Cluster.request` with the same arguments tries these candidates in this order. With a workload, the plan
    also has `options`, `pareto` and `plot`.

    Args:
        gpus: Total number of accelerators: GPUs, TPU chips, Trainium chips and so on.
        type: Accelerator ("h100"), TPU slice ("v5p-128") or exact instance type ("p5.48xlarge"); a list means any of
            them.
        workload: What the cluster is for: Training, Finetuning or Inference of `multicompute.sizing`, or a .toml or
            .json file with its arguments; the plan then finds how many of which accelerator do it at the lowest cost.
        deadline: Time in which the workload must be done, such as "30d"; a year if omitted.
        order: Which offers to try first: the cheapest ("price"), or every offer of the first type before those of the
            second ("given").
        reservations: Ids of capacity reservations, capacity blocks or TPU reservations to use first.
        reservations_only: Use the reservations only, and buy no other capacity.
        name: Name of the cluster, unique among live clusters: 2 to 40 characters of a-z, 0-9 and '-'; generated if
            omitted.
        nodes: Exact number of nodes.
        gpus_per_node: Exact number of accelerators on each node.
        allow_surplus: Also use offers with over a quarter more accelerators than `gpus`; you pay for all of them.
        min_gpu_memory: Minimum memory per accelerator, such as "80GiB"; a plain number is GiB.
        vcpus: Minimum number of vCPUs on each node.
        memory: Minimum memory on each node, such as "1TiB"; a plain number is GiB.
        spot: Use spot capacity only; "prefer" ranks spot and on-demand offers together.
        flex_start: Also use capacity that a cloud sells through a queue, which may start later.
        estimates: Also use offers whose price is only an estimate.
        clouds: Providers to use, by name; every configured provider if omitted.
        regions: Regions or zones to use: globs ("us-*", "us-east-1[ab]"), globs of one provider ("PROVIDER:us-*") or
            residencies ("eu"); any region if omitted.
        exclude: Regions and zones (in the same forms) and instance types not to use.
        placement: How far apart the nodes may be: in one zone, one region, one cloud, or any.
        interconnect: Network between nodes: "rdma" requires an RDMA fabric, "any" does not, "auto" does for
            accelerators that are built to be linked.
        max_price: Maximum price in USD per accelerator-hour.
        max_hourly: Maximum price in USD per hour for the cluster.
        budget: Maximum cost in USD over the cluster's life; at this cost the cluster is terminated.
        ttl: Time after which the cluster is terminated, such as "90m", "12h" or "7d"; "none" for no limit; if omitted,
            the configured `default_ttl`, or the deadline of a workload and a tenth more if that is longer.
        hours: For how many hours the cluster is expected to run, to rank offers by total cost; if omitted, its ttl, and
            one hour for a model that is served.
        data: Data that the cluster needs, each as URL, place and size ("s3://bucket/tokens", "PROVIDER:REGION",
            "20TiB"): offers rank by total cost with its transfer to their region, once, at list egress prices.
        interruption_cost_hours: Hours of work that a spot node loses at each interruption, to rank spot offers by price
            and expected cost of lost work: interruptions per hour x these hours x price.
        strict_ttl: Reject offers that a cloud terminates before the ttl; otherwise they rank behind the others and the
            cluster expires earlier.
        idle_timeout: Terminate the cluster after all accelerators were idle for this long, such as "30m", where the
            cloud measures utilization.
        disk: Size of the boot disk of each node, such as "200GiB"; a plain number is GiB; the provider's default if
            omitted.
        image: Id of the machine image, or a mapping of clouds or regions to ids, whose other places are then not used;
            the provider's default if omitted.
        setup: Shell script that runs as root at the first boot: a file or, in Python, also its text.
        ssh_key: File with the OpenSSH public key that may log in, or "auto" for a new key pair; READY then means that
            SSH answers; if omitted, a key pair is made, and port 22 is opened when something is first run.
        private: Give the nodes no public address.
        tags: Tags to set on every resource.
        wait: Wait until the cluster is READY; otherwise return once a cloud has accepted the launch.
        timeout: Tear down and fail if the cluster is not READY within this time, such as "30m".
        attempt_timeout: Time after which an attempt that is not ready counts as a lack of capacity, such as "10m"; the
            provider's default if omitted.
        keep_trying: How long to retry all candidates, with back-off, while all of them lack capacity, such as "2h";
            each is tried once if omitted.
        progress: Show progress on stderr, or call a function with each event; on a terminal only, if omitted.

    Raises:
        SpecError: An argument is unknown or wrong, or two contradict each other.
        NoOfferError: No offer in the catalog meets the request; the error carries the plan.
        CapacityError: All offers that meet the request are excluded by remembered outages.
    """
    return _plan(_spec(locals()))
