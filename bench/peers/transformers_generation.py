"""Sampling with transformers' generate(): temperature 1, the whole vocabulary, end of text ignored."""
import time

import torch
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

import settings


class FirstToken(StoppingCriteria):
    """Notes when the first token was drawn; stops nothing."""

    def __init__(self):
        self.at = None

    def __call__(self, ids, scores, **_):
        self.at = self.at or time.perf_counter()
        return torch.zeros(len(ids), dtype=torch.bool)


def decode(config, requests, result):
    dtype, autocast = settings.apply(config["dtype"])
    model = AutoModelForCausalLM.from_pretrained(config["model"], dtype=dtype).eval()
    generator = torch.Generator().manual_seed(1)
    new = config["new"]
    for _ in requests:
        ids = torch.randint(17, model.config.vocab_size, (config["batch"], config["prompt"]), generator=generator)
        first = FirstToken()
        began = time.perf_counter()
        with torch.inference_mode(), autocast():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0,
                                 top_p=1.0, max_new_tokens=new, min_new_tokens=new, pad_token_id=0,
                                 stopping_criteria=StoppingCriteriaList([first]))
        end = time.perf_counter()
        assert out.shape[1] == config["prompt"] + new
        result({"seconds": end - first.at, "parts": {"prefill": first.at - began}})
