"""Sampling with llama.cpp through its C interface: one context, parallel sequences advanced together,
its own sampler (temperature 1, the whole vocabulary), end of text ignored. Weights in the GGUF's type.
"""
import ctypes
import os
import random
import time

import llama_cpp as llama


def open_context(config):
    llama.llama_backend_init()
    open_context.log = llama.llama_log_callback(lambda level, text, user: None)  # must outlive the calls
    llama.llama_log_set(open_context.log, ctypes.c_void_p(0))
    model = llama.llama_model_load_from_file(config["model"].encode(), llama.llama_model_default_params())
    if not model:
        raise OSError(f"{config['model']}: llama.cpp cannot load it")
    batch, length = config["batch"], config["prompt"] + config["new"]
    params = llama.llama_context_default_params()
    params.n_ctx = batch * length
    params.n_batch = batch * config["prompt"]
    params.n_ubatch = min(512, params.n_batch)
    params.n_seq_max = batch
    params.n_threads = params.n_threads_batch = os.cpu_count()
    context = llama.llama_init_from_model(model, params)
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_temp(1.0))
    llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_dist(1))
    return context, chain, vocabulary


def decode(config, requests, result):
    context, chain, vocabulary = open_context(config)
    count, prompt, new = config["batch"], config["prompt"], config["new"]
    batch = llama.llama_batch_init(count * prompt, 0, 1)
    rng = random.Random(1)

    def put(i, token, position, sequence, want):
        batch.token[i], batch.pos[i], batch.logits[i] = token, position, want
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence

    def advance(tokens, rows):
        batch.n_tokens = tokens
        if llama.llama_decode(context, batch) != 0:
            raise RuntimeError("llama_decode")
        return [llama.llama_sampler_sample(chain, context, row) for row in rows]

    for _ in requests:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        prompts = [[rng.randrange(17, vocabulary) for _ in range(prompt)] for _ in range(count)]
        began = time.perf_counter()
        for s, ids in enumerate(prompts):
            for position, token in enumerate(ids):
                put(s * prompt + position, token, position, s, position == prompt - 1)
        last = advance(count * prompt, [s * prompt + prompt - 1 for s in range(count)])
        first = time.perf_counter()
        for i in range(new - 1):
            for s in range(count):
                put(s, last[s], prompt + i, s, True)
            last = advance(count, range(count))
        result({"seconds": time.perf_counter() - first, "parts": {"prefill": first - began}})
