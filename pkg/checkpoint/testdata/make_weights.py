#!/usr/bin/env python3
"""Write smollm2_weights.json: what transformers makes of the default model's GGUF, per tensor.

    pip install torch transformers gguf; python make_weights.py FOLDER_OF_THE_GGUF NAME.gguf
"""
import hashlib
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM

folder, name = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
out = {}
for key, tensor in sorted(model.state_dict().items()):
    if key == "lm_head.weight":  # tied
        continue
    a = tensor.numpy().astype("<f4")
    out[key] = {"shape": list(a.shape), "sha256": hashlib.sha256(a.tobytes()).hexdigest()}
path = pathlib.Path(__file__).parent / "smollm2_weights.json"
path.write_text("{\n" + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in out.items()) + "\n}\n")
