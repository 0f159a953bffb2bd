#!/usr/bin/env python3
"""Does transformers read a checkpoint that spin wrote, and see the same ids and log-probs in it?

    spin score --model DIR --dtype f32 --in texts.jsonl > scores.jsonl
    python verify_checkpoint.py DIR --scores scores.jsonl [--in texts.jsonl] [--reference DIR]

Loads DIR by AutoModelForCausalLM and AutoTokenizer; a missing, unexpected or misshapen weight is an error.
--in         the lines that were scored, {"messages": [...]} or {"prompt": ..., "response": ...}: their ids by
             transformers' tokenizer and chat template must equal prompt_ids and response_ids. Without it, only
             the log-probs of the ids in --scores are compared. A prompt string is one user message, or with
             --raw-prompts the text itself.
--scores     lines of prompt_ids, response_ids, token_logps (the end-of-turn token included)
--reference  another Hugging Face directory that must give the same ids and log-probs: what DIR was made from
Holds |difference| <= tolerance * (1 + |log-prob|) for each token. Prints one JSON line; exits 1 where something
differs, each difference on a line of its own on stderr, and 2 where the input cannot be used.
"""
import argparse
import json
import math
import sys

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer


class Unusable(Exception):
    pass


def read_lines(path):
    rows = []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except ValueError as err:
                    raise Unusable(f"{path}:{number}: {err}") from None
    return rows


def load(path, dtype):
    model, info = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="eager",
                                                       output_loading_info=True)
    bad = {k: sorted(map(str, v)) for k, v in info.items() if k.endswith("_keys") and v}
    if bad:
        raise Unusable(f"{path}: {json.dumps(bad)}")
    return model.eval(), AutoTokenizer.from_pretrained(path)


def encode(tokenizer, row, raw):
    """The ids of a line: the prompt through the chat template, the response by itself with the end-of-turn token."""
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    if "messages" in row:
        *prompt, last = row["messages"]
        response = last["content"]
    else:
        prompt, response = [{"role": "user", "content": row["prompt"]}], row["response"]
        if raw:
            return tokenizer(row["prompt"])["input_ids"], ids(response) + [tokenizer.eos_token_id]
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    return ids(text), ids(response) + [tokenizer.eos_token_id]


@torch.no_grad()
def token_logps(model, prompt, response):
    logits = model(input_ids=torch.tensor([prompt + response]), use_cache=False).logits[0]
    logp = F.log_softmax(logits[len(prompt) - 1:-1].float(), dim=-1)
    return logp.gather(1, torch.tensor(response)[:, None])[:, 0].tolist()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint")
    p.add_argument("--scores", required=True)
    p.add_argument("--in", dest="texts")
    p.add_argument("--raw-prompts", action="store_true")
    p.add_argument("--reference")
    p.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float64"))
    p.add_argument("--tolerance", type=float, default=1e-4)
    a = p.parse_args()

    scores = read_lines(a.scores)
    texts = read_lines(a.texts) if a.texts else [None] * len(scores)
    if not scores or len(scores) != len(texts):
        raise Unusable(f"{a.scores}: {len(scores)} lines, want {len(texts) or 'some'}")
    model, tokenizer = load(a.checkpoint, getattr(torch, a.dtype))
    reference = load(a.reference, getattr(torch, a.dtype)) if a.reference else None

    differences, worst, worst_reference, tokens = [], 0.0, 0.0, 0

    def compare(line, what, got, want):
        """The largest difference; what is out of tolerance is noted."""
        if len(got) != len(want):
            differences.append(f"line {line}: {len(got)} {what}, want {len(want)}")
            return math.inf
        for i, (g, w) in enumerate(zip(got, want)):
            if not abs(g - w) <= a.tolerance * (1 + abs(w)):
                differences.append(f"line {line}: {what}[{i}] {g}, want {w}")
        return max((abs(g - w) for g, w in zip(got, want)), default=0.0)

    for line, (score, text) in enumerate(zip(scores, texts), 1):
        prompt, response = score["prompt_ids"], score["response_ids"]
        if not prompt or not response or not all(0 <= i < model.config.vocab_size for i in prompt + response):
            raise Unusable(f"{a.scores}: line {line}: empty, or an id outside the model's {model.config.vocab_size}")
        if text is not None:
            for name, tok in (("transformers", tokenizer),) + ((("reference", reference[1]),) if reference else ()):
                for field, want in zip(("prompt_ids", "response_ids"), encode(tok, text, a.raw_prompts)):
                    if score[field] != want:
                        differences.append(f"line {line}: {field} {score[field]}, {name} has {want}")
        want = token_logps(model, prompt, response)
        worst = max(worst, compare(line, "token_logps", score["token_logps"], want))
        if reference:
            worst_reference = max(worst_reference, compare(
                line, "token_logps of the checkpoint", want, token_logps(reference[0], prompt, response)))
        tokens += len(response)

    print(json.dumps({"checkpoint": a.checkpoint, "lines": len(scores), "tokens": tokens, "texts": bool(a.texts),
                      "max_abs_difference": worst, "differences": len(differences)}
                     | ({"max_abs_difference_reference": worst_reference} if reference else {})))
    for d in differences:
        print(d, file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Unusable, OSError, KeyError) as err:
        print(f"verify_checkpoint: {type(err).__name__ if isinstance(err, KeyError) else ''}{err}", file=sys.stderr)
        sys.exit(2)
