"""Descriptions of workloads: the model, what is done with it, and how. `multicompute.sizing` works out what they need."""

from multicompute.workloads.architecture import Architecture
from multicompute.workloads.description import AnyWorkload, Finetuning, Inference, Training, Workload
from multicompute.workloads.huggingface import read_config

__all__ = ["AnyWorkload", "Architecture", "Finetuning", "Inference", "Training", "Workload", "read_config"]
