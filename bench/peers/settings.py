"""The settings that a peer can be run with, by the name that a configuration has for them.

f32             F32 as torch ships it
f32-medium      F32, torch.set_float32_matmul_precision("medium"): another GEMM library on some CPUs
bf16-autocast   F32 weights, torch.autocast to BF16
bf16            BF16 weights, and so BF16 optimizer state
"""
import contextlib
import os

import torch


def apply(name):
    """Sets precision and threads; returns the dtype of weights and a context for the forward pass."""
    torch.set_num_threads(os.cpu_count())
    torch.set_float32_matmul_precision("medium" if name == "f32-medium" else "highest")
    weights = torch.bfloat16 if name == "bf16" else torch.float32
    if name == "bf16-autocast":
        return weights, lambda: torch.autocast("cpu", torch.bfloat16)
    return weights, contextlib.nullcontext
