#!/usr/bin/env python3
"""Tiny random models of each family and their goldens: log-probs, and the gradient of the SPIN loss for every tensor.

    pip install torch transformers && python make_families.py     # writes {mistral,qwen2,llama3,linear,untied}/

Each folder: config.json and model.safetensors (F32) as a user would find them, and goldens.json:
  pairs[i]     prompt_ids; real and generated: ids, logps (F32), logps_f64, opponent_logps_f64
  losses, margins, mean    of the logistic loss, beta 0.5, F64, against the opponent: the same model with the
               second layer's down_proj halved (exact in F32)
  grads        of the mean, F64: norm, largest magnitude, first four values of every tensor
  max_abs_f32_minus_f64    of the log-probs: what an F32 engine may be off by
F64 means weights, matmuls, norms and softmax in float64; transformers makes its RoPE table in F32 (about 1e-7).
"""
import json
import os
import random

import torch
import torch.nn.functional as F
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

BETA, PERTURBED, FACTOR = 0.5, "model.layers.1.mlp.down_proj.weight", 0.5
HERE = os.path.dirname(os.path.abspath(__file__))
SHAPE = dict(hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=131, max_position_embeddings=128, initializer_range=0.15, rms_norm_eps=1e-5,
             bos_token_id=1, eos_token_id=2, hidden_act="silu")
# rope_scaling and rope_theta are the names of transformers 4, rope_parameters that of 5: models come with either
FAMILIES = {
    # a window of 6 in sequences of up to 30; heads wider than hidden_size / heads; head not tied
    "mistral": dict(model_type="mistral", head_dim=16, sliding_window=6, rope_theta=10000.0, tie_word_embeddings=False),
    "qwen2": dict(model_type="qwen2", use_sliding_window=False, rope_theta=1000000.0, tie_word_embeddings=True),
    # of the 8 wavelengths one is kept, one blended, the rest divided by the factor
    "llama3": dict(model_type="llama", head_dim=16, rope_theta=10000.0, tie_word_embeddings=True, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=64)),
    "linear": dict(model_type="llama", tie_word_embeddings=True,
                   rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=10000.0)),
    # as many key heads as query heads, biases on all four projections of attention
    "untied": dict(model_type="llama", tie_word_embeddings=False, attention_bias=True, num_key_value_heads=4,
                   rope_theta=10000.0),
}


def make(name, extra):
    """Write config.json and the weights; norms near 1 and biases are random too, so that none can be left out unseen."""
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    config = {**SHAPE, **extra, "dtype": "float32"}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")
    torch.manual_seed(sum(map(ord, name)))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "norm" in key:
                p.copy_(1 + 0.2 * torch.randn_like(p))
            elif key.endswith("bias"):
                p.copy_(0.3 * torch.randn_like(p))
    with open(os.path.join(folder, "config.json")) as f:
        keep = f.read()
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "generation_config.json"))
    os.chmod(os.path.join(folder, "model.safetensors"), 0o644)
    with open(os.path.join(folder, "config.json"), "w") as f:
        f.write(keep)
    return folder


def token_logps(model, prompt, response):
    logits = model(input_ids=torch.tensor([prompt + response]), use_cache=False).logits[0]
    logp = F.log_softmax(logits[len(prompt) - 1:-1], dim=-1)
    return logp.gather(1, torch.tensor(response)[:, None])[:, 0]


def golden(name, folder):
    rng = random.Random(name)
    ids = lambda n: [rng.randrange(3, SHAPE["vocab_size"]) for _ in range(n)]
    pairs = [{"prompt_ids": ids(p), "real": {"ids": ids(r) + [2]}, "generated": {"ids": ids(g) + end}}
             for p, r, g, end in ((9, 12, 7, [2]), (1, 5, 20, []), (17, 3, 12, [2]))]
    load = lambda: AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    single = load()
    with torch.no_grad():
        for pair in pairs:
            for side in ("real", "generated"):
                pair[side]["logps"] = token_logps(single, pair["prompt_ids"], pair[side]["ids"]).tolist()
    policy, opponent = load().double(), load().double()
    with torch.no_grad():
        dict(opponent.named_parameters())[PERTURBED].mul_(FACTOR)
    kept, torch.float32 = torch.float32, torch.float64  # the casts inside norms and softmax
    try:
        losses, margins, worst = [], [], 0.0
        for pair in pairs:
            reward = {}
            for side in ("real", "generated"):
                args = pair["prompt_ids"], pair[side]["ids"]
                logp = token_logps(policy, *args)
                with torch.no_grad():
                    q = token_logps(opponent, *args)
                assert logp.dtype == torch.float64
                reward[side] = BETA * (logp.sum() - q.sum())
                pair[side] |= {"logps_f64": logp.tolist(), "opponent_logps_f64": q.tolist()}
                worst = max(worst, max(abs(a - b) for a, b in zip(pair[side]["logps"], pair[side]["logps_f64"])))
            margins.append(reward["real"] - reward["generated"])
            losses.append(-F.logsigmoid(margins[-1]))
        mean = torch.stack(losses).mean()
        mean.backward()
    finally:
        torch.float32 = kept
    return {"about": "see make_families.py", "torch": torch.__version__, "transformers": transformers.__version__,
            "beta": BETA, "perturbed": PERTURBED, "factor": FACTOR, "max_abs_f32_minus_f64": worst, "pairs": pairs,
            "losses": [v.item() for v in losses], "margins": [v.item() for v in margins], "mean": mean.item(),
            "grads": {n: {"norm": p.grad.norm().item(), "max_abs": p.grad.abs().max().item(),
                          "first4": p.grad.flatten()[:4].tolist()} for n, p in policy.named_parameters()}}


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name, extra in FAMILIES.items():
        folder = make(name, extra)
        doc = golden(name, folder)
        with open(os.path.join(folder, "goldens.json"), "w") as f:
            json.dump(doc, f, indent=1)
            f.write("\n")
        print(name, "f32 - f64:", doc["max_abs_f32_minus_f64"], "losses:", doc["losses"])


if __name__ == "__main__":
    main()
