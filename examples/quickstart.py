"""Plan, launch, use and terminate 64 H100 on a local cloud: buys nothing and needs no account.

Without the first `with` block, the same code uses your own accounts.
"""

from multicompute import Cluster, errors
from multicompute.testing import local_clouds

with local_clouds("aws") as clouds:
    # Ranks all offers of AWS, Google Cloud and Azure for 64 H100, with their real prices. Calls no cloud.
    plan = Cluster.plan(gpus=64, type="h100")
    print(plan.explain(limit=5))
    print("\nCheapest offer of each cloud:")
    for cloud in ("aws", "azure", "gcp"):
        best = next(candidate for candidate in plan.candidates if candidate.provider == cloud)
        usable = "" if best.is_configured else "  (not configured)"
        print(
            f"  {cloud:5}  {best.nodes} x {best.instance_type} in {best.zone or best.region}, ${best.hourly_cost:,.2f}/h{usable}"
        )

    # The zone of the first candidate has no capacity, so the request fails over to the next candidate.
    first = next(candidate for candidate in plan.candidates if candidate.is_configured)
    clouds.aws.set_capacity(first.instance_type, first.zone, 0)

    # Starts all 64 or none, tagged and with a lease. Leaving the block terminates them, also after an exception.
    with Cluster.request(gpus=64, type="h100", ttl="12h", tags={"team": "nlp"}) as cluster:
        print(
            f"\n{cluster.name}: {cluster.gpus:g} accelerators in {cluster.zone}, ${cluster.hourly_cost:,.2f} per hour"
        )
        for event in cluster.events():
            print(f"  {event.kind:12} {event.message}")
        for node in cluster.nodes:
            print(f"  rank {node.rank}  {node.id}  {node.instance_type}  {node.zone}  {node.private_ip}")

        # Runs a command on all nodes at once. The nodes of a local cloud are shells on this machine, where sshd is installed.
        print("\nRun on all nodes:")
        lines: list[tuple[int, str]] = []
        try:
            cluster.run(
                'echo "rank $MULTICOMPUTE_RANK of $MULTICOMPUTE_NODES has $MULTICOMPUTE_GPUS_PER_NODE accelerators"',
                stream=lambda rank, stream, line: lines.append((rank, line)),
            )
        except errors.MulticomputeError as error:
            print(f"  nothing: {error}")
        for rank, line in sorted(lines):
            print(f"  [{rank}] {line}")

    # Ask the cloud itself what is left.
    print(f"\nLeft in the cloud: {clouds.aws.alive() or 'nothing'}")

print("""
Get one for real, from a cloud that you are signed in to (asks before it buys, ends after an hour):
  .venv/bin/multicompute doctor
  .venv/bin/multicompute up --gpus 1 --type l4 --ttl 1h --name first
  .venv/bin/multicompute nodes first
  .venv/bin/multicompute down first --yes""")
