#!/usr/bin/env python3
"""Goldens for checking another implementation of SPIN against transformers + torch autograd, on the CPU.

    python make_goldens.py MODEL_DIR OUT.json

MODEL_DIR: f32 Hugging Face directory from bench/peers/convert_gguf.py. README.md explains each field.
"""
import hashlib
import json
import sys

import tokenizers
import torch
import torch.nn.functional as F
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

BETA = 0.1
PERTURBED, FACTOR = "model.layers.14.mlp.down_proj.weight", 0.5
PAIRS = [
    ("What is the capital of France?",
     "Paris is the capital of France. It lies on the Seine, in the north of the country."),
    ("Write a haiku about autumn leaves.",
     "Crimson leaves drift down,\nwhispering to the cold ground\u2014\nautumn lets them go."),
    ("Explain in one sentence why the sky is blue.",
     "Air scatters short blue wavelengths of sunlight far more than long red ones, so blue light reaches us "
     "from every direction."),
]
GRADS = ["model.embed_tokens.weight", "model.norm.weight"] + [
    f"model.layers.{i}.{t}.weight" for i in (0, 14, 29) for t in (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
        "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm")]


def token_logps(model, prompt, response):
    logits = model(input_ids=torch.tensor([prompt + response]), use_cache=False).logits[0]
    logp = F.log_softmax(logits[len(prompt) - 1:-1], dim=-1)
    return logp.gather(1, torch.tensor(response)[:, None])[:, 0], logits


def spin_loss(policy, opponent, pairs):
    """mean over pairs of -log sigmoid(beta * ((log p - log q)(human) - (log p - log q)(self)))"""
    losses, margins = [], []
    for pair in pairs:
        ratio = {}
        for side in ("human", "self"):
            ids = pair["prompt_ids"], pair[side]["ids"]
            with torch.no_grad():
                q = token_logps(opponent, *ids)[0].sum()
            ratio[side] = token_logps(policy, *ids)[0].sum() - q
        margins.append(BETA * (ratio["human"] - ratio["self"]))
        losses.append(-F.logsigmoid(margins[-1]))
    return torch.stack(losses), torch.stack(margins)


def main():
    src, out = sys.argv[1:3]
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    load = lambda: AutoModelForCausalLM.from_pretrained(src, dtype=torch.float32, attn_implementation="eager").eval()
    policy, tokenizer = load(), AutoTokenizer.from_pretrained(src)
    named = dict(policy.named_parameters())
    doc = {"about": "see README.md", "torch": torch.__version__, "transformers": transformers.__version__,
           "tokenizers": tokenizers.__version__, "beta": BETA, "perturbed": PERTURBED, "factor": FACTOR,
           "weights": {}, "pairs": [], "losses": {}}
    for name in GRADS:
        w = named[name].detach()
        doc["weights"][name] = {"shape": list(w.shape), "first4": w.flatten()[:4].tolist(),
                                "norm": w.double().norm().item(), "sum": w.double().sum().item(),
                                "sha256_f32_le": hashlib.sha256(w.contiguous().numpy().tobytes()).hexdigest()}
    for prompt, human in PAIRS:
        text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False,
                                             add_generation_prompt=True)
        enc = lambda s: tokenizer(s, add_special_tokens=False)["input_ids"]
        ids = enc(text)
        new = policy.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                              max_new_tokens=48, do_sample=False)[0, len(ids):].tolist()
        human_ids = enc(human + "<|im_end|>")
        pair = {"prompt": prompt, "prompt_text": text, "prompt_ids": ids,
                "human": {"text": human, "ids": human_ids},
                "self": {"text": tokenizer.decode(new), "ids": new, "how": "greedy, at most 48 new tokens"}}
        doc["pairs"].append(pair)

    opponent = load()
    with torch.no_grad():
        dict(opponent.named_parameters())[PERTURBED].mul_(FACTOR)
        double = load().double()
        for pair in doc["pairs"]:
            for side in ("human", "self"):
                args = pair["prompt_ids"], pair[side]["ids"]
                logp, logits = token_logps(policy, *args)
                logp64, _ = token_logps(double, *args)
                top = logits[-1].topk(5)
                pair[side] |= {"logps": logp.tolist(), "logp_sum": logp.sum().item(),
                               "logps_f64": logp64.tolist(), "logp_sum_f64": logp64.sum().item(),
                               "opponent_logps": token_logps(opponent, *args)[0].tolist(),
                               "last_logits_top5": {"ids": top.indices.tolist(), "logits": top.values.tolist()},
                               "last_logsumexp": logits[-1].logsumexp(-1).item()}
                pair[side]["max_abs_f32_minus_f64"] = (logp - logp64).abs().max().item()
        del double

    for label, q in (("opponent_is_policy", policy), ("opponent_perturbed", opponent)):
        policy.zero_grad(set_to_none=True)
        losses, margins = spin_loss(policy, q, doc["pairs"])
        losses.mean().backward()
        total = torch.stack([p.grad.double().norm() for p in named.values()]).norm().item()
        doc["losses"][label] = {
            "per_pair": losses.tolist(), "mean": losses.mean().item(), "margins": margins.tolist(),
            "grad_norm_all_parameters": total,
            "grads": {n: {"norm": named[n].grad.double().norm().item(),
                          "first4": named[n].grad.flatten()[:4].tolist(),
                          "max_abs": named[n].grad.abs().max().item()} for n in GRADS}}

    # one optimizer step each way, from the perturbed-opponent gradient
    for label, make in (("adamw", lambda ps: torch.optim.AdamW(ps, lr=1e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)),
                        ("rmsprop", lambda ps: torch.optim.RMSprop(ps, lr=1e-5, alpha=0.99, eps=1e-8))):
        model = load()
        opt = make(model.parameters())
        trace = []
        for _ in range(3):
            losses, _m = spin_loss(model, opponent, doc["pairs"])
            opt.zero_grad(set_to_none=True)
            losses.mean().backward()
            opt.step()
            trace.append(losses.mean().item())
        with torch.no_grad():
            trace.append(spin_loss(model, opponent, doc["pairs"])[0].mean().item())
        doc["losses"][label + "_trace"] = {
            "optimizer": {k: v for k, v in opt.defaults.items() if isinstance(v, (int, float, bool, tuple, list))},
            "mean_loss_before_step_1_2_3_and_after": trace}

    with open(out, "w") as f:
        json.dump(doc, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
