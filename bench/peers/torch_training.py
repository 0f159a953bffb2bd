"""SPIN's training step and scoring as a careful person writes them in PyTorch.

One forward pass over all sequences of the batch, logits at response positions only, the last token
of each answer never read, opponent's log-probabilities given, fused AdamW. Sequences of one length
are not padded.
"""
import time

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

import games as pairs
import settings

GIVEN = -500.0  # stands for an opponent's log-probability where only time is measured


class Batch:
    """ids [2·games, tokens]: real answers, then generated ones, padded at the end."""

    def __init__(self, games):
        rows = pairs.sequences(games)
        width = max(len(p) + len(a) for p, a in rows) - 1
        self.ids = torch.zeros(len(rows), width, dtype=torch.long)
        self.targets = torch.full((len(rows), width), -100)
        for i, (prompt, answer) in enumerate(rows):
            whole = torch.tensor(prompt + answer)
            self.ids[i, :len(whole) - 1] = whole[:-1]
            self.targets[i, len(prompt) - 1:len(whole) - 1] = whole[len(prompt):]
        used = (self.targets != -100).any(0).nonzero()
        self.keep = width - int(used[0])  # positions whose logits are needed, from the end
        self.targets = self.targets[:, -self.keep:]
        # Without padding no mask is needed, and attention may take its fast path.
        self.mask = None
        if len({len(p) + len(a) for p, a in rows}) > 1:
            self.mask = torch.tensor([[1] * (len(p) + len(a) - 1) + [0] * (width + 1 - len(p) - len(a)) for p, a in rows])

    def logps(self, model):
        """Summed log-probability of each answer."""
        logits = model(input_ids=self.ids, attention_mask=self.mask, use_cache=False, logits_to_keep=self.keep).logits
        nll = F.cross_entropy(logits.flatten(0, 1).float(), self.targets.flatten(), reduction="none", ignore_index=-100)
        return -nll.view(self.targets.shape).sum(1)


def optimizer(config, model):
    if config["optimizer"] == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), lr=config["lr"])
    return torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.0, fused=True)


def step(batch, model, opponent, opt, autocast, beta):
    """One optimizer step on the mean logistic loss; returns the loss."""
    with autocast():
        logps = batch.logps(model)
    real, generated = (logps - opponent).chunk(2)
    loss = -F.logsigmoid(beta * (real - generated)).mean()
    loss.backward()
    opt.step()
    opt.zero_grad(set_to_none=True)
    return loss.item()


def load(config):
    dtype, autocast = settings.apply(config["dtype"])
    model = AutoModelForCausalLM.from_pretrained(config["model"], dtype=dtype).train()
    if config.get("compile"):
        model.forward = torch.compile(model.forward)
    return model, autocast


def train(config, requests, result):
    model, autocast = load(config)
    opt = optimizer(config, model)
    batch = Batch(pairs.read(config["games"]))
    opponent = torch.full((len(batch.ids),), GIVEN)
    for _ in requests:
        began = time.perf_counter()
        loss = step(batch, model, opponent, opt, autocast, config["beta"])
        result({"seconds": time.perf_counter() - began, "losses": [loss]})


def score(config, requests, result):
    model, autocast = load(config)
    model.eval()
    batch = Batch(pairs.read(config["games"]))
    for _ in requests:
        began = time.perf_counter()
        with torch.inference_mode(), autocast():
            total = batch.logps(model).sum().item()
        result({"seconds": time.perf_counter() - began, "losses": [-total]})


def curve(config, requests, result):
    """The losses of `steps` steps; the opponent is the model as it was before the first."""
    model, autocast = load(config)
    opt = optimizer(config, model)
    games, size = pairs.read(config["games"]), config["batch"]
    for _ in requests:
        began, losses, batches = time.perf_counter(), [], []
        for i in range(config["steps"]):
            start = i * size % (len(games) - size + 1)
            batches.append(Batch(games[start:start + size]))
        with torch.no_grad(), autocast():
            opponents = [b.logps(model) for b in batches]
        for batch, opponent in zip(batches, opponents):
            losses.append(step(batch, model, opponent, opt, autocast, config["beta"]))
        result({"seconds": time.perf_counter() - began, "losses": losses})
