"""Sizes a model: how many of which accelerator it needs, for how long, and what the complete job costs.

job = Training(params=70e9, tokens=2e12)
print(size(job, "h100").min_accelerators)
plan = optimise(job, machines, JobLimits(deadline=timedelta(days=30)))
"""

from multicompute.sizing.explain import Figure, explain
from multicompute.sizing.optimiser import optimise
from multicompute.sizing.options import JobLimits, JobOptions, Machine, Option
from multicompute.sizing.plot import plot
from multicompute.sizing.report import Sizing, size
from multicompute.workloads import Architecture, Finetuning, Inference, Training, Workload, read_config

__all__ = [
    "Architecture",
    "Figure",
    "Finetuning",
    "Inference",
    "JobLimits",
    "JobOptions",
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
