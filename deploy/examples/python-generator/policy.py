"""The policy of this example. It has read no weights: it says one of a few sentences, and what it says about the
probability of an answer is that of a model for which all tokens are alike. Put your engine here.

What an engine owes (pkg/event/proto/spin/v1/game.proto): draws of at most max_new_tokens tokens, the end-of-turn token
last where one was produced; log p of each token, under the weights named by the task, of its own draws, of the human
answer and of the kept draws; and draws that depend on nothing but (seed, iteration, prompt, draw), so that whoever
plays a game again plays the same."""

import hashlib
import json
import math

from tokenizers import Tokenizer

ANSWERS = ("Yes.", "I had not thought of that.", "It depends on the weather.", "Not since last winter, no.")


class Policy:
    def __init__(self, files):
        """files: the checkpoint's, name -> bytes."""
        self.tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
        generation = json.loads(files.get("generation_config.json", b"{}"))
        config = json.loads(files["config.json"])
        eos = generation.get("eos_token_id", config.get("eos_token_id"))
        self.end = eos[0] if isinstance(eos, list) else eos
        self.logp = -math.log(config["vocab_size"])

    def draw(self, seed, iteration, prompt_id, draw, max_new_tokens):
        """Returns text, token ids, and whether the end-of-turn token ends them."""
        key = hashlib.sha256(f"{seed}/{iteration}/{prompt_id}/{draw}".encode()).digest()
        ids = self.tokenizer.encode(ANSWERS[key[0] % len(ANSWERS)], add_special_tokens=False).ids + [self.end]
        stopped = len(ids) <= max_new_tokens
        ids = ids[:max_new_tokens]
        return self.tokenizer.decode(ids[:-1] if stopped else ids), ids, stopped

    def score(self, prompt_ids, ids):
        """log p of each token of an answer, and the mean entropy in nats a token."""
        return [self.logp] * len(ids), -self.logp
