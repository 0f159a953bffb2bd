"""Writes goldens.json: what PyTorch says about the operations of compute/ref, in float64.

    python make_goldens.py > goldens.json      (torch 2.x; any version gives these to 1e-12)
"""

import json

import torch
import torch.nn.functional as F

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)
out = {}


def put(**tensors):
    return {k: v.detach().flatten().tolist() if torch.is_tensor(v) else v for k, v in tensors.items()}


# RMSNorm after an addition, [3, 6].
x, delta, w = torch.randn(3, 6), torch.randn(3, 6), torch.randn(6)
out["rmsnorm"] = put(x=x, delta=delta, w=w, y=F.rms_norm(x + delta, (6,), w, 1e-5))

# SwiGLU, [2, 5].
gate, up = torch.randn(2, 5) * 3, torch.randn(2, 5)
out["swiglu"] = put(gate=gate, up=up, y=F.silu(gate) * up)

# RoPE as transformers' apply_rotary_pos_emb does it, 2 heads of 8, positions 0, 3, 11.
x, pos = torch.randn(3, 2, 8), torch.tensor([0.0, 3.0, 11.0])
angle = pos[:, None] * 10000.0 ** (-torch.arange(0, 8, 2) / 8.0)
cos, sin = torch.cat([angle.cos()] * 2, -1)[:, None], torch.cat([angle.sin()] * 2, -1)[:, None]
half = torch.cat([-x[..., 4:], x[..., :4]], -1)
out["rope"] = put(x=x, y=x * cos + half * sin)

# Attention: a prompt of 4 tokens and two answers of 3 and 2, 4 query heads on 2, head of 4, window 5.
# Each answer with its prompt is one causal sequence; gradients add up over both.
q, k, v, dy = torch.randn(9, 4, 4), torch.randn(9, 2, 4), torch.randn(9, 2, 4), torch.randn(9, 4, 4)
for t in (q, k, v):
    t.requires_grad_()
y = torch.zeros(9, 4, 4)
for rows, new in (([0, 1, 2, 3], slice(0, 4)), ([0, 1, 2, 3, 4, 5, 6], slice(4, 7)), ([0, 1, 2, 3, 7, 8], slice(4, 6))):
    n = len(rows)
    i = torch.arange(n)
    mask = (i[:, None] >= i) & (i[:, None] - i < 5)
    s = F.scaled_dot_product_attention(q[rows].transpose(0, 1), k[rows].repeat_interleave(2, 1).transpose(0, 1),
                                       v[rows].repeat_interleave(2, 1).transpose(0, 1), attn_mask=mask, scale=0.5)
    y = y.index_copy(0, torch.tensor(rows)[new], s.transpose(0, 1)[new])
dq, dk, dv = torch.autograd.grad(y, (q, k, v), dy)
out["attention"] = put(q=q, k=k, v=v, dy=dy, y=y, dq=dq, dk=dk, dv=dv)

# Head: rows 1, 0, 1 of x [2, 3] under W [5, 3].
x, w, rows, target, coef = torch.randn(2, 3), torch.randn(5, 3), [1, 0, 1], [4, 2, 0], torch.randn(3)
x.requires_grad_(), w.requires_grad_()
d = torch.distributions.Categorical(logits=x[rows] @ w.T)
logp = d.log_prob(torch.tensor(target))
dx, dw = torch.autograd.grad((logp * coef).sum(), (x, w))
out["head"] = put(x=x, w=w, coef=coef, logp=logp, entropy=d.entropy(), dx=dx, dw=dw)

# Optimizers: three steps on a parameter of 6, the gradients clipped to norm 1.
for name, make in (
    ("rmsprop", lambda p: torch.optim.RMSprop([p], lr=1e-2, alpha=0.9, eps=1e-8, weight_decay=0.1)),
    ("adamw", lambda p: torch.optim.AdamW([p], lr=1e-2, betas=(0.8, 0.95), eps=1e-8, weight_decay=0.1)),
):
    p = torch.randn(6, requires_grad=True)
    start, grads, after = p.detach().clone(), [], []
    optimizer = make(p)
    for step in range(3):
        p.grad = torch.randn(6) * (0.1 if step == 1 else 2)
        grads += p.grad.tolist()
        torch.nn.utils.clip_grad_norm_([p], 1.0)
        optimizer.step()
        after += p.tolist()
    out[name] = put(start=start, grads=grads, after=after)

print("{" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in out.items()) + "}")
