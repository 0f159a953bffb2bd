#!/usr/bin/env python3
"""Goldens of whole optimizer steps: clipping by global norm, then torch's AdamW or RMSprop, in float64.

    pip install torch && python make_updates.py > updates.json

Three parameters, five steps with given gradients; weight decay only where `decay` says so, as in the two groups
of transformers' Trainer. `norms` are what clip_grad_norm_ returned before each step.
"""
import json

import torch

SHAPES = {"matrix": (3, 4), "norm": (1, 4), "still": (2, 2)}
NO_DECAY = {"norm"}
RATES = [0.0, 5e-3, 1e-2, 7.5e-3, 5e-3]
CASES = [  # name, class, settings, largest norm (0: no clipping)
    ("rmsprop", torch.optim.RMSprop, {"alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0}, 1.0),
    ("rmsprop", torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-6, "weight_decay": 0.1}, 0.0),
    ("adamw", torch.optim.AdamW, {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}, 1.0),
    ("adamw", torch.optim.AdamW, {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.0}, 0.0),
]


def main():
    torch.manual_seed(5)
    # step 3's gradients are small enough to pass unclipped; `still` has no gradient at all
    scale = [1.0, 3.0, 0.05, 10.0, 1.0]
    start = {n: torch.randn(s, dtype=torch.float64).float().double() for n, s in SHAPES.items()}
    grads = [{n: (torch.zeros(s) if n == "still" else scale[k] * torch.randn(s)).double() for n, s in SHAPES.items()}
             for k in range(len(RATES))]
    doc = {"about": "see make_updates.py", "torch": torch.__version__, "no_decay": sorted(NO_DECAY), "rates": RATES,
           "parameters": {n: {"rows": s[0], "cols": s[1], "start": start[n].flatten().tolist(),
                              "grads": [g[n].flatten().tolist() for g in grads]} for n, s in SHAPES.items()},
           "cases": []}
    for name, cls, settings, max_norm in CASES:
        params = {n: torch.nn.Parameter(w.clone()) for n, w in start.items()}
        rest = {k: v for k, v in settings.items() if k != "weight_decay"}
        optimizer = cls([
            {"params": [p for n, p in params.items() if n not in NO_DECAY], "weight_decay": settings["weight_decay"]},
            {"params": [p for n, p in params.items() if n in NO_DECAY], "weight_decay": 0.0}], lr=1.0, **rest)
        norms = []
        for rate, grad in zip(RATES, grads):
            for n, p in params.items():
                p.grad = grad[n].clone()
            norms.append(torch.nn.utils.clip_grad_norm_(params.values(), max_norm or float("inf")).item())
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        doc["cases"].append({
            "rule": name, **settings, "max_norm": max_norm, "norms": norms,
            "end": {n: p.flatten().tolist() for n, p in params.items()},
            "state": {n: {k: v.flatten().tolist() for k, v in optimizer.state[p].items() if k != "step"}
                      for n, p in params.items()}})
    print(json.dumps(doc, indent=1))


if __name__ == "__main__":
    main()
