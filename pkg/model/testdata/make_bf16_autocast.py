#!/usr/bin/env python3
"""How far PyTorch's own bf16 training arithmetic is from the truth: the yardstick for ours.

    pip install torch transformers && python make_bf16_autocast.py MODEL_DIR > bf16_autocast.json

For each response of goldens.json: mean and largest |token log-prob under torch.autocast(bfloat16) - logps_f64|.
Weights are f32 and autocast rounds them for each matmul; log-softmax is f32. MODEL_DIR: see make_goldens.py.
`bf16_weights` is the same with the whole model cast to bfloat16, for comparison.
"""
import json
import os
import sys

import torch
import torch.nn.functional as F
import transformers
from transformers import AutoModelForCausalLM

here = os.path.dirname(os.path.abspath(__file__))


@torch.no_grad()
def errors(model, pairs, autocast):
    rows, flat = [], []
    for i, pair in enumerate(pairs):
        for side in ("human", "self"):
            prompt, response = pair["prompt_ids"], pair[side]["ids"]
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logits = model(input_ids=torch.tensor([prompt + response]), use_cache=False).logits[0]
            logp = F.log_softmax(logits[len(prompt) - 1:-1].float(), dim=-1)
            logp = logp.gather(1, torch.tensor(response)[:, None])[:, 0]
            want = torch.tensor(pair[side]["logps_f64"], dtype=torch.float64)
            d = (logp.double() - want).abs()
            flat.append(d)
            rows.append({"pair": i, "side": side, "tokens": len(response), "mean_abs": d.mean().item(),
                         "max_abs": d.max().item(), "sum": (logp.double().sum() - want.sum()).item()})
    flat = torch.cat(flat)
    return {"mean_abs": flat.mean().item(), "max_abs": flat.max().item(), "tokens": len(flat), "responses": rows}


def main():
    with open(os.path.join(here, "goldens.json")) as f:
        pairs = json.load(f)["pairs"]
    torch.set_num_threads(1)
    doc = {"about": "see make_bf16_autocast.py", "torch": torch.__version__, "transformers": transformers.__version__,
           "cpu": torch.backends.cpu.get_cpu_capability()}
    for label, dtype, autocast in (("autocast", torch.float32, True), ("bf16_weights", torch.bfloat16, False)):
        for attention in ("eager", "sdpa"):
            model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=dtype, attn_implementation=attention).eval()
            doc[f"{label}_{attention}"] = errors(model, pairs, autocast)
    print(json.dumps(doc, indent=1))


if __name__ == "__main__":
    main()
