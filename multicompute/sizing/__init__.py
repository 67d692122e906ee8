"""Sizes a model: how many of which accelerator it needs, for how long, and what the complete job costs.

job = Training(params="70B", tokens="2T")
print(size(job, "h100").min_accelerators)
plan = optimise(job, machines, JobLimits(deadline=timedelta(days=30)))
"""

from multicompute.sizing.architecture import Architecture
from multicompute.sizing.explain import Figure, explain
from multicompute.sizing.huggingface import read_config
from multicompute.sizing.interruptions import Interruptions
from multicompute.sizing.optimiser import optimise
from multicompute.sizing.options import JobLimits, JobPlan, Machine, Option
from multicompute.sizing.plot import plot
from multicompute.sizing.report import Sizing, size
from multicompute.sizing.workload import Finetuning, Inference, Training, Workload

__all__ = [
    "Architecture",
    "Figure",
    "Finetuning",
    "Inference",
    "Interruptions",
    "JobLimits",
    "JobPlan",
    "Machine",
    "Option",
    "Sizing",
    "Training",
    "Workload",
    "explain",
    "optimise",
    "plot",
    "read_config",
    "size",
]
