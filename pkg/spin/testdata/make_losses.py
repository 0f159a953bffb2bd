#!/usr/bin/env python3
"""Goldens of the objective, in float64: TRL's own DPO loss where it has one, torch for the others.

    pip install torch trl datasets && python make_losses.py > losses.json

logistic (TRL: sigmoid) and hinge run DPOTrainer._compute_loss itself, on a stand-in for the model that returns
the wanted log-probabilities. exponential and correlation exist in no library: the paper's formulas in torch.
Gradients are torch autograd's of the mean loss over the pairs.
"""
import json
import random
import types
from collections import defaultdict

import torch
import torch.nn.functional as F
import trl
from trl import DPOTrainer

BETA = 0.1


def pairs():
    """[policy real, policy generated, opponent real, opponent generated]: ties, wins, losses, large margins."""
    rng = random.Random(7)
    rows = [[-31.25, -64.5, -31.25, -64.5], [-10.0, -20.0, -20.0, -10.0], [-20.0, -10.0, -10.0, -20.0],
            [-5.0, -400.0, -200.0, -100.0], [-200.0, -100.0, -5.0, -400.0]]
    for _ in range(11):
        real, generated = -300 * rng.random(), -300 * rng.random()
        rows.append([real + rng.gauss(0, 12), generated + rng.gauss(0, 12), real, generated])
    return rows


def trl_loss(kind, rows):
    """TRL's mean loss of the rows, each response being one token long after a one-token prompt."""
    policy, opponent = rows[:, :2], rows[:, 2:]
    n = len(rows)
    trainer = DPOTrainer.__new__(DPOTrainer)
    same = lambda x: x
    trainer.accelerator = types.SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same)
    trainer.model = types.SimpleNamespace(training=True)
    trainer.args = types.SimpleNamespace()
    trainer.aux_loss_enabled = trainer.use_weighting = False
    trainer.ld_alpha, trainer.f_divergence_type, trainer.beta = None, "reverse_kl", BETA
    trainer.loss_types, trainer.loss_weights, trainer.label_smoothing = [kind], [1.0], 0.0
    trainer.precompute_ref_logps, trainer._total_train_tokens, trainer._tp_size = True, 0, 1
    trainer._metrics = {"train": defaultdict(list)}
    log_probs = torch.cat([policy[:, 0], policy[:, 1]])[:, None]
    zeros = torch.zeros_like(log_probs)
    model = lambda **_: types.SimpleNamespace(log_probs=log_probs, entropy=zeros, mean_logits=zeros,
                                              is_top1=zeros.bool())
    ids = torch.zeros(2 * n, 2, dtype=torch.long)
    loss = trainer._compute_loss(model, {
        "input_ids": ids, "attention_mask": torch.ones_like(ids),
        "completion_mask": torch.tensor([[0, 1]] * (2 * n)),
        "ref_chosen_logps": opponent[:, 0], "ref_rejected_logps": opponent[:, 1]}, False)
    return loss, {k: v[-1] for k, v in trainer._metrics["train"].items()}


def paper_loss(kind, rows):
    reward = BETA * (rows[:, :2] - rows[:, 2:])
    t = reward[:, 0] - reward[:, 1]
    loss = {"logistic": -F.logsigmoid(t), "hinge": torch.relu(1 - t), "exponential": torch.exp(-t),
            "correlation": 1 - t}[kind]
    return loss, reward


def main():
    doc = {"about": "see make_losses.py", "torch": torch.__version__, "trl": trl.__version__, "beta": BETA, "cases": []}
    for kind, trl_name in (("logistic", "sigmoid"), ("hinge", "hinge"), ("exponential", None), ("correlation", None)):
        rows = torch.tensor(pairs(), dtype=torch.float64, requires_grad=True)
        losses, rewards = paper_loss(kind, rows)
        mean, accuracy = losses.mean(), (rewards[:, 0] > rewards[:, 1]).double().mean().item()
        if trl_name:
            each = [trl_loss(trl_name, rows[i:i + 1])[0] for i in range(len(rows))]
            losses = torch.stack(each)
            mean, metrics = trl_loss(trl_name, rows)
            accuracy = metrics["rewards/accuracies"]
            assert abs(metrics["rewards/margins"] - (rewards[:, 0] - rewards[:, 1]).mean().item()) < 1e-12
        grad, = torch.autograd.grad(mean, rows)
        doc["cases"].append({
            "loss": kind, "pairs": rows.tolist(), "losses": losses.tolist(), "mean": mean.item(), "accuracy": accuracy,
            "rewardsReal": rewards[:, 0].tolist(), "rewardsGenerated": rewards[:, 1].tolist(),
            "gradReal": grad[:, 0].tolist(), "gradGenerated": grad[:, 1].tolist()})
    print(json.dumps(doc, indent=1))


if __name__ == "__main__":
    main()
