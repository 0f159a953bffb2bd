"""Products of the model's shapes, as torch's linear layers run them."""
import time

import torch
import torch.nn.functional as F

import settings

FLOOR = 0.06  # seconds that each product is repeated for one figure


def gemm(config, requests, result):
    dtype, _ = settings.apply(config["dtype"])
    rows = config["rows"]
    products = []
    for out, inner in config["shapes"]:
        x, w = torch.randn(rows, inner, dtype=dtype), torch.randn(out, inner, dtype=dtype)
        products.append((f"forward {out}x{inner}", lambda x=x, w=w: F.linear(x, w)))
        if rows < 256:  # decoding
            continue
        dy = torch.randn(rows, out, dtype=dtype)
        products.append((f"dx {out}x{inner}", lambda dy=dy, w=w: dy @ w))
        products.append((f"dw {out}x{inner}", lambda dy=dy, x=x: dy.T @ x))
    with torch.inference_mode():
        for _ in requests:
            parts, began = {}, time.perf_counter()
            for name, call in products:
                call()
                calls, start = 0, time.perf_counter()
                while time.perf_counter() - start < FLOOR:
                    call()
                    calls += 1
                parts[name] = (time.perf_counter() - start) / calls
            result({"seconds": time.perf_counter() - began, "parts": parts})
