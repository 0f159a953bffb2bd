#!/usr/bin/env python3
"""Does transformers read what spin wrote, and as the same weights?

    python compare_transformers.py WRITTEN ORIGINAL [TOLERANCE]

Each is a Hugging Face folder or a GGUF file. WRITTEN must load without a missing, unexpected or misshapen weight; all
weights must be equal bit for bit, or to within TOLERANCE times the largest of their tensor (a half step: F16 0.0005,
BF16 0.004, Q8_0 0.004), and the fields of the two configurations that decide the computation must be equal. A GGUF is also read by llama.cpp's own gguf package.
Prints one line; exits 1 where something differs, each difference on a line of its own.
"""
import os
import sys

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM

FIELDS = ["model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
          "vocab_size", "max_position_embeddings", "tie_word_embeddings", "rope_parameters", "hidden_act"]


def load(path):
    arguments = {"output_loading_info": True}
    if os.path.isfile(path):
        reader = GGUFReader(path)
        print(f"gguf: {path}: {len(reader.tensors)} tensors, {len(reader.fields)} fields")
        folder, name = os.path.split(os.path.abspath(path))
        return AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32, **arguments)
    return AutoModelForCausalLM.from_pretrained(path, dtype="auto", **arguments)


written, info = load(sys.argv[1])
original, _ = load(sys.argv[2])
bad = [f"{kind}: {sorted(map(str, names))}" for kind, names in info.items() if kind.endswith("_keys") and names]
a, b = written.state_dict(), original.state_dict()
bad += [f"{name}: in one of the two only" for name in a.keys() ^ b.keys()]
tolerance = float(sys.argv[3]) if len(sys.argv) > 3 else 0
for name in sorted(a.keys() & b.keys()):
    x, y = a[name].float(), b[name].float()
    if x.shape != y.shape:
        bad.append(f"{name}: shape {tuple(x.shape)}, not {tuple(y.shape)}")
    elif not torch.all((x - y).abs() <= tolerance * y.abs().max()):
        bad.append(f"{name}: differs by up to {(x - y).abs().max().item():g}")
for field in FIELDS:
    x, y = getattr(written.config, field), getattr(original.config, field)
    if x != y:
        bad.append(f"config.{field}: {x}, not {y}")
if abs(written.config.rms_norm_eps - original.config.rms_norm_eps) > 1e-12:
    bad.append(f"config.rms_norm_eps: {written.config.rms_norm_eps}, not {original.config.rms_norm_eps}")
for line in bad:
    print(line)
print(f"{len(a)} weights of {written.dtype}:", "different" if bad else "equal")
sys.exit(bool(bad))
