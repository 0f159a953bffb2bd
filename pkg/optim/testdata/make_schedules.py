#!/usr/bin/env python3
"""Goldens of the learning rate: what transformers' get_scheduler sets for each step.

    pip install torch transformers && python make_schedules.py > schedules.json
"""
import json

import torch
import transformers
from transformers import get_scheduler

NAMES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
SETTINGS = [  # peak, warm-up, horizon, steps taken
    (5e-7, 0, 20, 20), (5e-6, 8, 24, 24), (1e-6, 1, 10, 10), (1.0, 10, 100, 34), (3e-4, 5, 5, 5), (0.1, 0, 1, 1),
]


def rates(shape, lr, warmup, horizon, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = get_scheduler(NAMES[shape], optimizer, num_warmup_steps=warmup, num_training_steps=horizon)
    out = []
    for _ in range(steps):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return out


doc = {"about": "see make_schedules.py", "torch": torch.__version__, "transformers": transformers.__version__,
       "cases": [{"shape": shape, "lr": lr, "warmup": warmup, "horizon": horizon,
                  "rates": rates(shape, lr, warmup, horizon, steps)}
                 for shape in NAMES for lr, warmup, horizon, steps in SETTINGS]}
print(json.dumps(doc, indent=1))
