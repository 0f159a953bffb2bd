package compute

import "fmt"

func (h Heads) check(op string) {
	if h.Q <= 0 || h.KV <= 0 || h.Q%h.KV != 0 || h.Dim <= 0 || h.Window < 0 {
		panic(fmt.Sprintf("compute: %s: heads %+v", op, h))
	}
}

// CheckAttention's tokens is the number that the plan was last set to.
func CheckAttention(y, lse, q, k, v Tensor, h Heads, tokens int) {
	h.check("Attention")
	need("Attention", "q", q, tokens, h.Q*h.Dim, anyFloat)
	need("Attention", "y", y, tokens, h.Q*h.Dim, only(q.DType))
	need("Attention", "k", k, tokens, h.KV*h.Dim, only(q.DType))
	need("Attention", "v", v, tokens, h.KV*h.Dim, only(q.DType))
	need("Attention", "lse", lse, tokens, h.Q, wide)
}

func CheckAttentionBackward(dq, dk, dv, dy, y, lse, q, k, v Tensor, h Heads, tokens int) {
	CheckAttention(y, lse, q, k, v, h, tokens)
	need("AttentionBackward", "dy", dy, tokens, h.Q*h.Dim, only(q.DType))
	need("AttentionBackward", "dq", dq, tokens, h.Q*h.Dim, only(q.DType))
	need("AttentionBackward", "dk", dk, tokens, h.KV*h.Dim, only(q.DType))
	need("AttentionBackward", "dv", dv, tokens, h.KV*h.Dim, only(q.DType))
}

func (c Cache) check(op string, in dtypes) {
	need(op, "cache K", c.K, anySize, anySize, in)
	need(op, "cache V", c.V, c.K.Rows, c.K.Cols, only(c.K.DType))
	if c.PageTokens <= 0 || c.K.Rows%c.PageTokens != 0 {
		panic(fmt.Sprintf("compute: %s: cache of %d rows in pages of %d", op, c.K.Rows, c.PageTokens))
	}
}

func CheckWriteKV(c Cache, k, v Tensor, tokens int) {
	c.check("WriteKV", anyFloat)
	need("WriteKV", "k", k, tokens, c.K.Cols, only(c.K.DType))
	need("WriteKV", "v", v, tokens, c.K.Cols, only(c.K.DType))
}

func CheckAttentionPaged(y, q Tensor, c Cache, h Heads, tokens int) {
	h.check("AttentionPaged")
	c.check("AttentionPaged", anyFloat)
	if c.K.Cols != h.KV*h.Dim {
		panic(fmt.Sprintf("compute: AttentionPaged: cache %v for heads %+v", c.K, h))
	}
	need("AttentionPaged", "q", q, tokens, h.Q*h.Dim, only(c.K.DType))
	need("AttentionPaged", "y", y, tokens, h.Q*h.Dim, only(c.K.DType))
}

func CheckCopyPages(c Cache, dst, src Tensor) {
	c.check("CopyPages", anyFloat)
	need("CopyPages", "src", src, anySize, 1, index)
	need("CopyPages", "dst", dst, src.Rows, 1, index)
}
