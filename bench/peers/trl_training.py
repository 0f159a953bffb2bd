"""SPIN with TRL's DPOTrainer, which is what people use for it: a reference whose log-probabilities
were computed before, no gradient checkpointing (it would be slower), no clipping.
"""
import sys
import tempfile
import time

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

import games as pairs
import settings
from torch_training import GIVEN

REPEATS = 1000  # of the games, so that training lasts as long as the harness asks for steps


class Tokenized(DPOTrainer):
    """A DPOTrainer that is given token ids: both rivals are to see the same tokens."""

    def _prepare_dataset(self, dataset, *_):
        return dataset


class Reference(Tokenized):
    """And the reference's log-probabilities."""

    def _precompute_ref_logps(self, dataset, *_):
        return dataset


def arguments(config, folder, **more):
    return DPOConfig(
        output_dir=folder, use_cpu=True, bf16=config["dtype"] == "bf16-autocast", fp16=False,
        per_device_train_batch_size=config["batch"], learning_rate=config["lr"], lr_scheduler_type="constant",
        beta=config["beta"], loss_type="sigmoid", max_length=None, optim="adamw_torch_fused", weight_decay=0.0,
        max_grad_norm=0.0, gradient_checkpointing=False, precompute_ref_log_probs=True,
        dataloader_pin_memory=False, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, **more)


def load(config):
    settings.apply(config["dtype"])
    model = AutoModelForCausalLM.from_pretrained(config["model"], dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(config["model"])


def train(config, requests, result):
    """One optimizer step a request, from where the trainer has its batch to where it has updated."""
    model, tokenizer = load(config)
    rows = [{"prompt_ids": g["prompt"], "chosen_ids": g["real"], "rejected_ids": g["generated"],
             "ref_chosen_logps": GIVEN, "ref_rejected_logps": GIVEN} for g in pairs.read(config["games"])]

    class Clock(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if next(requests, self) is self:
                control.should_training_stop = True
                sys.stdout.flush()
                import os

                os._exit(0)
            self.began = time.perf_counter()

        def on_step_end(self, args, state, control, **_):
            result({"seconds": time.perf_counter() - self.began})

    with tempfile.TemporaryDirectory() as folder:
        trainer = Reference(model=model, args=arguments(config, folder, max_steps=REPEATS * len(rows)),
                            train_dataset=Dataset.from_list(rows * REPEATS), processing_class=tokenizer,
                            callbacks=[Clock()])
        trainer.train()


def iteration(config, requests, result):
    """transformers samples, TRL scores the reference and trains one epoch."""
    model, tokenizer = load(config)
    tokenizer.padding_side = "left"
    games = pairs.read(config["games"])
    for _ in requests:
        began = time.perf_counter()
        generated = sample(model, [g["prompt"] for g in games], config["new"])
        sampled = time.perf_counter()
        rows = [{"prompt_ids": g["prompt"], "chosen_ids": g["real"], "rejected_ids": a} for g, a in zip(games, generated)]
        with tempfile.TemporaryDirectory() as folder:
            trainer = Tokenized(model=model, args=arguments(config, folder, num_train_epochs=1),
                                train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
            scored = time.perf_counter()
            trainer.train()
        end = time.perf_counter()
        result({"seconds": end - began, "parts": {"sample": sampled - began, "score": scored - sampled, "train": end - scored}})


def sample(model, prompts, new, size=32):
    """An answer of `new` tokens to each prompt, prompts of like length together."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [None] * len(prompts)
    model.eval()
    for start in range(0, len(order), size):
        part = order[start:start + size]
        width = max(len(prompts[i]) for i in part)
        ids = torch.tensor([[0] * (width - len(prompts[i])) + prompts[i] for i in part])
        mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in part])
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                                 max_new_tokens=new, min_new_tokens=new, pad_token_id=0)
        for i, row in zip(part, out[:, width:].tolist()):
            answers[i] = row
    return answers
