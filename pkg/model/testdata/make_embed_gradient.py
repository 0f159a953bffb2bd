#!/usr/bin/env python3
"""The gradient of the tied embedding, as it is and as transformers trains it.

    pip install torch transformers && python make_embed_gradient.py MODEL_DIR > embed_gradient.json

transformers makes the input embedding with padding_idx = pad_token_id, which is <|im_end|> here, and torch drops the
gradient of that row: of goldens.json's embed_tokens, row 2 holds what comes through the head alone, though the prompts
read <|im_end|> at every turn. spin differentiates the function as it stands. This script computes the gradient of
goldens.json's losses.opponent_perturbed both ways, `whole` with padding_idx taken away and `padding` with it, in F64 and
F32: norm of the tensor, norm of row 2, largest magnitude, the row's first four values, and the norm over all parameters.
MODEL_DIR: see make_goldens.py.
"""
import json
import os
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
ROW = 2


def gradient(golden, dtype, padding):
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=dtype, attn_implementation="eager").eval()
    assert model.model.embed_tokens.padding_idx == ROW
    if not padding:
        model.model.embed_tokens.padding_idx = None

    def logp(prompt, answer):
        logits = model(input_ids=torch.tensor([prompt + answer["ids"]]), use_cache=False).logits[0, len(prompt) - 1:-1]
        return torch.log_softmax(logits, -1).gather(1, torch.tensor(answer["ids"])[:, None]).sum()

    loss = 0
    for p in golden["pairs"]:
        reward = {s: golden["beta"] * (logp(p["prompt_ids"], p[s]) - sum(p[s]["opponent_logps"])) for s in ("human", "self")}
        loss = loss - torch.nn.functional.logsigmoid(reward["human"] - reward["self"]) / len(golden["pairs"])
    loss.backward()
    grad = model.model.embed_tokens.weight.grad.double()
    return {"loss": loss.item(), "norm": grad.norm().item(), "max_abs": grad.abs().max().item(),
            "row_norm": grad[ROW].norm().item(), "row_first4": grad[ROW][:4].tolist(),
            "norm_all_parameters": sum(p.grad.double().square().sum() for p in model.parameters()).sqrt().item()}


def main():
    torch.set_num_threads(int(os.environ.get("THREADS", "1")))
    with open(os.path.join(HERE, "goldens.json")) as f:
        golden = json.load(f)
    doc = {"about": "see make_embed_gradient.py", "torch": torch.__version__, "transformers": transformers.__version__, "row": ROW}
    for name, padding in (("whole", False), ("padding", True)):
        doc[name] = {label: gradient(golden, dtype, padding) for label, dtype in (("f64", torch.float64), ("f32", torch.float32))}
    print(json.dumps(doc, indent=1))


if __name__ == "__main__":
    main()
