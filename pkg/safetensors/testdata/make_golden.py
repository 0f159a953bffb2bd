#!/usr/bin/env python3
"""Write types.safetensors and types.json with the reference implementation.

    pip install numpy ml_dtypes safetensors==0.8.0; python make_golden.py
"""
import json
import pathlib

import ml_dtypes
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(2)
values = (rng.normal(size=(5, 7)) * 10.0 ** rng.integers(-6, 4, size=(5, 7))).astype(np.float32)
tensors = {
    "f32": values,
    "f16": values.astype(np.float16),
    "bf16": values.astype(ml_dtypes.bfloat16),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "vector ü\"": values[0],
    "ids": np.arange(3),
}
save_file(tensors, here / "types.safetensors", metadata={"format": "pt"})
golden = {name: {"shape": list(a.shape), "f32": a.astype("<f4").tobytes().hex()} for name, a in tensors.items()}
(here / "types.json").write_text(json.dumps(golden, indent=1) + "\n")
with safe_open(here / "types.safetensors", "np") as f:
    assert set(f.keys()) == set(tensors)
