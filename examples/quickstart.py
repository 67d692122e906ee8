"""64 H100 from one line to teardown, on a cloud that runs on this machine: nothing is bought, no account is needed.

Without the first `with` the same code runs on your own accounts.
"""

from multicompute import Cluster
from multicompute.testing import local_clouds

with local_clouds("aws") as clouds:
    # Every way to get 64 H100, at the real prices of AWS, Google Cloud and Azure. No cloud is touched.
    plan = Cluster.plan(gpus=64, type="h100")
    print(plan.explain(limit=5))
    print("\nThe best of each cloud:")
    for cloud in ("aws", "azure", "gcp"):
        best = next(candidate for candidate in plan.candidates if candidate.provider == cloud)
        usable = "" if best.is_configured else "  (not configured)"
        print(
            f"  {cloud:5}  {best.nodes} x {best.instance_type} in {best.zone or best.region}, ${best.hourly_cost:,.2f}/h{usable}"
        )

    # The first place is sold out, as happens; the request goes on to the next by itself.
    first = next(candidate for candidate in plan.candidates if candidate.is_configured)
    clouds.aws.set_capacity(first.instance_type, first.zone, 0)

    # All 64 or none of them; tagged, with an end of life; torn down when the `with` ends, however it ends.
    with Cluster.request(gpus=64, type="h100", ttl="12h", tags={"team": "nlp"}) as cluster:
        print(
            f"\n{cluster.name}: {cluster.gpus:g} accelerators in {cluster.zone}, ${cluster.hourly_cost:,.2f} per hour"
        )
        for event in cluster.events():
            print(f"  {event.kind:12} {event.message}")
        for node in cluster.nodes:
            print(f"  rank {node.rank}  {node.id}  {node.instance_type}  {node.zone}  {node.private_ip}")

    # Not our word for it, but the cloud's.
    print(f"\nLeft in the cloud: {clouds.aws.alive() or 'nothing'}")
