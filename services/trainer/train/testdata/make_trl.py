#!/usr/bin/env python3
"""The golden of a training run: 20 steps of TRL's DPOTrainer (loss `sigmoid`) with a tiny random llama.

    pip install torch transformers trl datasets && python make_trl.py     # writes tiny/, pairs.jsonl, trl.json

tiny/        a Hugging Face directory: 2 layers of width 64, byte-level BPE of 512 tokens, a chat template
pairs.jsonl  40 pairs as `real` and `generated` message lists; two have several turns, two a system message
trl.json     the settings; the token ids that TRL trained on; for each step its loss, learning rate, gradient norm
             (before clipping) and TRL's metrics, and each pair's four log-probs; the final weights' norms

The chat template puts nothing behind <|im_end|> but what the next turn brings. TRL trains on everything that the template
adds behind the answer, so with a template that ends in "<|im_end|>\n" it also learns to predict that newline, which no model
ever samples. SPIN's response ends with the end-of-turn token; here both mean the same tokens.
"""
import json
import os
import tempfile

import torch
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(HERE, "tiny")
SETTINGS = dict(loss="logistic", beta=0.1, batch=4, steps=20, epochs=2, optimizer="rmsprop", alpha=0.99, eps=1e-8,
                weight_decay=0.0, max_grad_norm=1.0, lr=1e-4, schedule="linear", warmup=4, horizon=30, dtype="f32")
TEMPLATE = ("{% for message in messages %}{% if not loop.first %}{{ '\\n' }}{% endif %}"
            "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '\\n<|im_start|>assistant\\n' }}{% endif %}")

FACTS = [
    ("the capital of France", "Paris", "it lies on the Seine"),
    ("the capital of Japan", "Tokyo", "14 million people live there"),
    ("the capital of Perú", "Lima", "it looks out on the Pacific"),
    ("the longest river of Europe", "the Volga", "it is 3530 km long"),
    ("the highest mountain", "Mount Everest", "it is 8849 metres high"),
    ("the smallest planet", "Mercury", "a year there lasts 88 days"),
    ("the largest ocean", "the Pacific", "it covers a third of the Earth"),
    ("the symbol of gold", "Au", "from the Latin aurum"),
    ("the first prime number", "2", "it is also the only even one"),
    ("the currency of Japan", "the yen (¥)", "there are coins of 1, 5 and 500"),
]
ASK = ["What is {}?", "Tell me: what's {}?", "I forgot {}, can you help?", "{} - do you know?"]
REAL = ["It's {answer}; {detail}.", "{Answer}. By the way, {detail}!", "That would be {answer} — {detail} 🙂",
        "Sure:\n- {answer}\n- {detail}"]
# every other generated answer is a real one's wording with another fact, so that the pairs are not told apart at once
GENERATED = ["I think that {what} is {answer} and {answer}.", "The answer to your question is the answer.",
             "{Answer}", "As a language model I do not know {what}, but {what} is a good question. Is it {answer}?"]


def make_pairs():
    pairs = []
    for i in range(40):
        what, answer, detail = FACTS[i % len(FACTS)]
        words = dict(what=what, answer=answer, Answer=answer[0].upper() + answer[1:], detail=detail)
        ask = ASK[i // 10].format(what)
        messages = [{"role": "user", "content": ask[0].upper() + ask[1:]}]
        if i in (7, 23):
            messages = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hi, how can I help?"},
                        *messages]
        if i in (11, 31):
            messages = [{"role": "system", "content": "Answer briefly."}, *messages]
        say = lambda texts, k: [*messages, {"role": "assistant", "content": texts[k % 4].format(**words)}]
        real, generated = say(REAL, i + i // 10), say(GENERATED, 3 * i + i // 4)
        if i % 2:
            _, answer, detail = FACTS[(i + 3) % len(FACTS)]
            words = dict(answer=answer, Answer=answer[0].upper() + answer[1:], detail=detail)
            generated = say(REAL, i + i // 5)
        pairs.append({"real": real, "generated": generated})
    return pairs


def make_model(pairs):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    texts = [m["content"] for p in pairs for side in p.values() for m in side] + ["system", "user", "assistant"]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=512, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>",
                                   pad_token="<|endoftext|>", unk_token="<|endoftext|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(TINY)
    torch.manual_seed(11)
    model = AutoModelForCausalLM.from_config(LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, initializer_range=0.08,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0), dtype=torch.float32)
    model.save_pretrained(TINY)
    os.chmod(os.path.join(TINY, "model.safetensors"), 0o644)


class Recorder(DPOTrainer):
    """Keeps, unrounded, what TRL and transformers log rounded or averaged."""

    def _compute_loss(self, model, inputs, return_outputs):
        kept = {}

        def spy(**kwargs):
            out = model(**kwargs)
            kept["logps"] = out.log_probs[:, -(kwargs["input_ids"].shape[1] - 1):].sum(1).detach().chunk(2)
            return out

        loss = super()._compute_loss(spy, inputs, return_outputs)
        last = {k: v[-1] for k, v in self._metrics["train"].items() if v and k.split("/")[0] in ("rewards", "logps")}
        rows = self.__dict__.setdefault("rows", [])
        rows.append({"step": len(rows) + 1, "loss": loss.item(), "lr": self.optimizer.param_groups[0]["lr"], **last,
                     "policy_real": kept["logps"][0].tolist(), "policy_generated": kept["logps"][1].tolist(),
                     "opponent_real": inputs["ref_chosen_logps"].tolist(),
                     "opponent_generated": inputs["ref_rejected_logps"].tolist()})
        return loss


def train(pairs):
    s = SETTINGS
    data = Dataset.from_list([{"prompt": p["real"][:-1], "chosen": p["real"][-1:], "rejected": p["generated"][-1:]}
                              for p in pairs])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32), AutoTokenizer.from_pretrained(TINY)
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    with tempfile.TemporaryDirectory() as out:
        trainer = Recorder(model=model, train_dataset=data, processing_class=tokenizer, args=DPOConfig(
            output_dir=out, use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=False, disable_dropout=True,
            per_device_train_batch_size=s["batch"], gradient_accumulation_steps=1, max_steps=s["horizon"],
            beta=s["beta"], loss_type="sigmoid", precompute_ref_log_probs=True, max_length=None, optim="rmsprop",
            learning_rate=s["lr"], weight_decay=s["weight_decay"], max_grad_norm=s["max_grad_norm"],
            lr_scheduler_type=s["schedule"], warmup_steps=s["warmup"], train_sampling_strategy="sequential",
            logging_steps=1, report_to=[], save_strategy="no", disable_tqdm=True, seed=1),
            callbacks=[Stop(s["steps"])])
        trainer.train()
        group = trainer.optimizer.param_groups[0]
        assert type(trainer.optimizer.optimizer) is torch.optim.RMSprop
        assert (group["alpha"], group["eps"], group["momentum"], group["centered"]) == (s["alpha"], s["eps"], 0, False)
    for row, logged in zip(trainer.rows, trainer.state.log_history):
        row["grad_norm"] = float(logged["grad_norm"])
    assert len(trainer.rows) == s["steps"]
    for p, row in zip(pairs, trainer.train_dataset):  # TRL's ids are those of prompt and answer encoded apart
        encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
        assert row["prompt_ids"] == encode(tokenizer.apply_chat_template(p["real"][:-1], tokenize=False,
                                                                         add_generation_prompt=True))
        assert row["chosen_ids"] == encode(p["real"][-1]["content"] + "<|im_end|>")
        assert row["rejected_ids"] == encode(p["generated"][-1]["content"] + "<|im_end|>")
    return {"about": "see make_trl.py", "torch": torch.__version__, "transformers": transformers.__version__,
            "trl": trl.__version__, "settings": s,
            "ids": [{"prompt": r["prompt_ids"], "real": r["chosen_ids"], "generated": r["rejected_ids"]}
                    for r in trainer.train_dataset],
            "steps": trainer.rows,
            "weights": {n: {"norm": p.detach().double().norm().item(),
                            "moved": (p.detach().double() - start[n].double()).norm().item(),
                            "first4": p.detach().flatten()[:4].tolist()} for n, p in model.named_parameters()}}


class Stop(transformers.TrainerCallback):
    """The schedule's horizon is longer than the training, as in the paper's recipe."""

    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step >= self.steps


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    pairs = make_pairs()
    with open(os.path.join(HERE, "pairs.jsonl"), "w") as f:
        for p in pairs:
            f.write(json.dumps(p, ensure_ascii=False) + "\n")
    make_model(pairs)
    doc = train(pairs)
    with open(os.path.join(HERE, "trl.json"), "w") as f:
        json.dump(doc, f, indent=1)
        f.write("\n")
    for r in doc["steps"]:
        print(r["step"], *(f"{k} {r[k]:.6g}" for k in ("lr", "loss", "rewards/margins", "rewards/accuracies", "grad_norm")))


if __name__ == "__main__":
    main()
