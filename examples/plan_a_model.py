"""From a model to its fleet, its work and its bill, on local clouds: buys nothing and needs no account.

Without `local_clouds`, and the lines that pretend something, the same code uses your own accounts.
"""

from multicompute import Cluster, errors
from multicompute.sizing import Option, Training, explain, size
from multicompute.testing import local_clouds

DEADLINE = "7d"
TYPES = ["a100-80gb", "h100", "h200", "b200"]  # what the code was written for


def training(mfu: float | None = None) -> Training:
    """Return the job: train a model of 70B parameters on 20B more tokens."""
    return Training(params=70e9, tokens=20e9, seq_len=8192, mfu=mfu)


def arguments(job: Training, option: Option) -> list[str]:
    """Return the arguments of a training script, as Megatron-LM spells them, for the parallelism of an option."""
    layout = option.layout
    step = job.micro_batch * layout.data
    return [
        *("--tensor-model-parallel-size", str(layout.tensor)),
        *("--pipeline-model-parallel-size", str(layout.pipeline)),
        *("--micro-batch-size", str(job.micro_batch)),
        *("--global-batch-size", str(step * max(1, round(job.step_tokens / job.seq_len / step)))),
        *(["--use-distributed-optimizer"] if layout.zero else []),
    ]


with local_clouds() as clouds:
    job = training()
    print(f"1. SIZE the {job}\n")
    for figure in explain(size(job, "h100")):
        if figure.name in ("params", "flops", "total_gib", "min_accelerators", "checkpoint_gib"):
            print(f"  {figure}".replace("\n", "\n  "))

    print("\n2. CHOOSE the accelerator, how many, the cloud and the zone (calls no cloud)\n")
    plan = Cluster.plan(workload=job, deadline=DEADLINE, type=TYPES, regions=["us"])
    print(plan.explain(limit=8))
    first = plan.best
    assert first is not None and first.total_cost is not None
    try:
        plan.plot("plan_a_model.svg")
        print("\nplan_a_model.svg shows cost against time.")
    except errors.ConfigError as error:
        print(f"\nNo picture: {error}")

    # Pretend that the first zone has no capacity: the request continues with the next candidate.
    clouds[first.provider].set_capacity(first.instance_type, first.zone, 0)

    print("\n3. REQUEST all nodes or none, until a little after the deadline\n")
    with Cluster.request(
        workload=job, deadline=DEADLINE, type=TYPES, regions=["us"], name="llm-70b", tags={"team": "nlp"}
    ) as cluster:
        for event in cluster.events():
            print(f"  {event.kind:10} {event.message}")

        print(f"\n4. CONFIGURE the script for what was bought, {cluster.gpus:g} accelerators\n")
        bought, gpus = cluster.head.instance_type, int(cluster.gpus)
        option = Cluster.plan(workload=job, type=bought, gpus=gpus, regions=["us"]).options[0]
        parallel = option.layout.to_dict()
        print(f"  {', '.join(f'{name} {degree}' for name, degree in parallel.items())}")
        print(f"  {' '.join(arguments(job, option))}")

        # With PyTorch on the nodes: cluster.torchrun("pretrain.py", *arguments(job, option)).
        # The nodes of a local cloud are shells on this machine, where sshd is installed.
        print("\n5. RUN on all nodes at once\n")
        lines: list[tuple[int, str]] = []
        try:
            cluster.run(
                'echo "rank $MULTICOMPUTE_RANK of $MULTICOMPUTE_NODES, $MULTICOMPUTE_GPUS_PER_NODE accelerators: $SCRIPT"',
                env={"SCRIPT": "pretrain.py"},
                stream=lambda rank, stream, line: lines.append((rank, line)),
            )
        except errors.MulticomputeError as error:
            print(f"  nothing: {error}")
        for _, line in sorted(lines):
            print(f"  {line}")

        print("\n6. WATCH the accelerators and the speed, and plan again with what was measured\n")
        for node in cluster.nodes:
            clouds[node.provider].measure(node.id, {"accelerator": 91})  # pretend
        busy = [sample.value for sample in cluster.metrics() if sample.metric == "accelerator"]
        print(f"  the accelerators are busy for {sum(busy) / len(busy):.0f} % of the time")
        expected = option.performance.tokens_per_second
        measured = 0.9 * expected  # pretend that the script logs this
        mfu = option.mfu * measured / expected
        now = Cluster.plan(workload=training(mfu), type=bought, gpus=gpus, regions=["us"]).options[0]
        print(f"  {measured:,.0f} tokens per second instead of {expected:,.0f}: {mfu:.0%} MFU, not {option.mfu:.0%}")
        print(f"  the job takes {now.hours / 24:.1f} days, not {option.hours / 24:.1f}, and the deadline is {DEADLINE}")
        print(f"  so it may live longer: until {cluster.extend('12h'):%Y-%m-%d %H:%M} UTC")

        print("\n7. ACCOUNT\n")
        print(f"  the plan             ${first.total_cost:>10,.2f}  {first.hours:.0f} h at ${first.hourly_cost:,.2f}")
        print(f"  at the speed so far  ${now.total_usd:>10,.2f}  {now.hours:.0f} h at ${cluster.hourly_cost:,.2f}")
        print(f"  spent so far         ${cluster.accrued_cost:>10,.2f}  clouds bill a minute at least")

    print(f"\n{cluster.name} is {cluster.state}. Left in the clouds: {clouds.alive() or 'nothing'}")
