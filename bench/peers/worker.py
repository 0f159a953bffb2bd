#!/usr/bin/env python3
"""The peers' side of bench/compare: prepares what its one argument, a unit.Config in JSON, asks for,
and performs one unit of it for each line on stdin (bench/unit says how the two speak).

    python worker.py '{"kind": "train", "engine": "torch", "dtype": "bf16-autocast", …}'
"""
import importlib
import json
import os
import sys

MODULES = {
    ("gemm", "torch"): "gemm",
    ("train", "torch"): "torch_training",
    ("score", "torch"): "torch_training",
    ("curve", "torch"): "torch_training",
    ("train", "trl"): "trl_training",
    ("iteration", "trl"): "trl_training",
    ("decode", "transformers"): "transformers_generation",
    ("decode", "llama"): "llama_generation",
}


def high_water():
    """The resident high-water mark of this process, in bytes (VmHWM of proc(5))."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM:"))


def versions():
    found = {"python": sys.version.split()[0]}
    for name in ("torch", "transformers", "trl", "llama_cpp"):
        if name in sys.modules:
            found[name] = sys.modules[name].__version__
    return found


def main():
    config = json.loads(sys.argv[1])
    # What libraries print must not reach the harness.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")

    whole = None

    def answer(record):
        print(json.dumps(record), file=out)

    def requests():
        """Says that all is prepared, then yields once a line, to be followed by one result()."""
        nonlocal whole
        whole = high_water()
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
        answer({"versions": versions()})
        for _ in sys.stdin:
            yield

    def result(record):
        peak = high_water()
        answer(record | {"peak_bytes": peak, "whole_bytes": max(whole, peak)})

    module = importlib.import_module(MODULES[config["kind"], config["engine"]])
    getattr(module, config["kind"])(config, requests(), result)
    os._exit(0)  # libraries' threads may still wait


if __name__ == "__main__":
    try:
        main()
    except Exception as err:  # the harness reports it and goes on with the next row
        import traceback

        traceback.print_exc()
        sys.exit(f"worker: {type(err).__name__}: {err}")
