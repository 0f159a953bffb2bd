#!/usr/bin/env python3
"""Rewrite a GGUF in another type, with llama.cpp's own quantizer: the same numbers where the type holds them.

    python requantize.py IN.gguf OUT.gguf f32|bf16
"""
import os
import sys

import llama_cpp as llama

source, target, kind = sys.argv[1:]
params = llama.llama_model_quantize_default_params()
params.ftype = {"f32": llama.LLAMA_FTYPE_ALL_F32, "bf16": llama.LLAMA_FTYPE_MOSTLY_BF16}[kind]
params.allow_requantize = True
if llama.llama_model_quantize(source.encode(), (target + ".part").encode(), params) != 0:
    sys.exit(f"requantize: {source}: llama.cpp cannot make {kind} of it")
os.replace(target + ".part", target)
