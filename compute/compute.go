// Package compute is the contract between the model and the machines that run it: tensors in a
// device's memory, and the some thirty operations that a llama-shaped decoder needs to sample, to
// score and to train. It holds no implementation. compute/ref is the oracle in float64, compute/cpu
// and compute/cuda are the engines, compute/computetest.RunAll is the suite that all of them pass.
//
// # Rules that hold for every operation
//
// Results come first in the argument list. Activation gradients and other results are overwritten
// (=), parameter gradients (dw, db) are added to (+=), unless the operation says otherwise. An
// absent (zero) Tensor where a parameter gradient is asked for means that the weight is frozen: the
// work is skipped.
//
// Shapes are written [rows, cols]. T is the number of tokens in the packed batch. "act" is the
// dtype of activations, BF16 or F32 (F64 on ref): one dtype for a whole model. "stream" is the
// residual stream and its gradient: F32 whatever the act dtype is (F64 on ref). Norm weights,
// biases, masters, parameter gradients, optimizer state, statistics (rstd, lse, logp, entropy) and
// RoPE tables are F32 (F64 on ref). Arithmetic is at least F32 inside an operation; a result is
// rounded once, to nearest even, when it is stored.
//
// # Fixed order
//
// Row results (activations, logp, dx) have the same bits in whatever batch the row appears, at
// whatever index, on any number of threads, and whatever its batch-mates are. Sums over rows (dw,
// db, norm gradients, embedding gradients, SumSquares) have the same bits for the same rows in the
// same order, on any number of threads. Reductions over a row's own columns, over keys, over the
// vocabulary and over rows run in blocks whose borders are absolute (a column, position, token id
// or row index), never relative to a thread's share.
//
// # Errors
//
// Arguments that do not fit (shape, dtype, stride, memory of another device) are the caller's bug
// and panic. Failures of the device stick, and come out of Wait, as a bufio.Writer's come out of
// Flush.
package compute

// Device owns memory and makes everything else. Its methods may be called from any goroutine.
type Device interface {
	// Fingerprint names all that decides bits: backend, instruction set, kernel version. The
	// number of threads is not part of it, nor is the dtype (the run adds it).
	Fingerprint() string
	// NewBackend makes one ordered queue of work. Operations run in call order; a call may return
	// before its work is done.
	NewBackend() Backend
	// NewArena reserves memory for tensors. It panics with ErrMemory wrapped where the device has
	// not that much.
	NewArena(bytes int64) Arena
	// NewWeight makes a matrix that Linear multiplies by, all zero. train says whether LinearDX
	// will be asked of it as well, which may need a second packed form.
	NewWeight(out, in int, dt DType, train bool) Weight
	// Close frees the device's threads and memory. Nothing made from it may be used afterwards.
	Close() error
}

// Arena is a stack of tensors in one block of device memory. It belongs to one goroutine.
type Arena interface {
	// Alloc returns a contiguous tensor (Stride = Cols), its contents undefined. It starts at a
	// multiple of 64 bytes and takes its size rounded up to one, on every device: so callers can add
	// sizes up before step 0. It panics where the arena is full.
	Alloc(dt DType, rows, cols int) Tensor
	// Mark and Release give back, at once, everything allocated since the mark.
	Mark() int64
	Release(mark int64)
	// Peak is the most that was ever in use, in bytes.
	Peak() int64
	// Free gives the whole block back to the device.
	Free()
}

// Weight is a [out, in] matrix in whatever form the device multiplies fastest: panels of one or
// both orientations, or a shard. It is filled by Backend.Store and by Backend.Optimize, and may be
// read by several Backends of its device at once while none of them writes it: a queue sees what
// another wrote once that one's Wait has returned.
type Weight interface {
	Dims() (out, in int)
	DType() DType
	// Bytes is the device memory that the weight takes, all forms together.
	Bytes() int64
	Free()
}

// Plan is a Layout's twin on the device: buffers fixed when it is made, refilled by Set, safe to
// replay in a graph. It belongs to the Backend that made it, which alone may be given it: Set has its
// place in that queue, so operations called before it still see the layout that was set then.
type Plan interface {
	// Set validates the layout (it panics on one that breaks Layout's rules or exceeds the plan's
	// sizes) and copies it; the caller may reuse its slices at once.
	Set(Layout)
}

// Ticket is a transfer under way; see Backend.Wait.
type Ticket uint64

// Limits are the largest sizes that a Backend will meet. Zero fields mean "not used".
type Limits struct {
	Tokens   int   // rows of an activation
	Width    int   // columns of the widest activation other than logits
	Vocab    int   // rows of the head's weight
	HeadRows int   // rows asked of HeadLogProb in one call
	Segments int   // segments in a layout
	Context  int   // positions of the longest sequence, parents and cache included
	Heads    Heads // of the attention operations
	Train    bool  // backward operations too
}

// Max is the limits that allow what l or m does.
func (l Limits) Max(m Limits) Limits {
	return Limits{
		Tokens: max(l.Tokens, m.Tokens), Width: max(l.Width, m.Width), Vocab: max(l.Vocab, m.Vocab), HeadRows: max(l.HeadRows, m.HeadRows),
		Segments: max(l.Segments, m.Segments), Context: max(l.Context, m.Context),
		Heads: Heads{Q: max(l.Heads.Q, m.Heads.Q), KV: max(l.Heads.KV, m.Heads.KV), Dim: max(l.Heads.Dim, m.Heads.Dim)},
		Train: l.Train || m.Train,
	}
}

// Backend runs operations on one device, in call order. It belongs to one goroutine at a time.
// Nothing allocates after Reserve, NewPlan and the arenas.
type Backend interface {
	// NewPlan makes a plan for layouts of at most these sizes; maxPages counts the pages of all
	// segments together (0 for plans that never meet a cache).
	NewPlan(maxTokens, maxSegments, maxPages int) Plan
	// Reserve takes the scratch memory that operations within l need, and says how many bytes it
	// is. It is called before step 0; operations take scratch from nowhere else and panic where
	// they are asked for more than was reserved. Reserving again grows it.
	Reserve(l Limits) int64

	// Upload copies src, little-endian elements of dst's dtype in row-major order, to the device.
	// src is free on return.
	Upload(dst Tensor, src []byte)
	// Download copies to the host: dst holds the data once Wait has returned. See Read.
	Download(dst []byte, src Tensor) Ticket
	// Wait blocks until the transfer and all that was queued before it is done, and returns the
	// first failure that the device met since it was made.
	Wait(Ticket) error
	// Graph runs body. A device that can, records the operations on the first call for a key and
	// replays them afterwards without calling body: so for one key body must make the same calls
	// with the same arguments, and no Upload, Download or Set inside. What may change is what device
	// memory holds: tensors' elements, weights, and plans, set to as many tokens as at the first
	// call. Keys are the Backend's own; a key's memory must live as long as it is called.
	Graph(key uint64, body func())

	// Zero sets every element of t to 0.
	Zero(t Tensor)
	// Copy writes src to dst, converting the dtype. Shapes are equal.
	Copy(dst, src Tensor)
	// Gather sets y[i] = x[rows[i]]. y [n, C], x [T, C] of y's dtype, rows I32 [n, 1].
	Gather(y, x, rows Tensor)

	// Store fills rows [row, row+src.Rows) of w with src [rows, in] F32, rounded to w's dtype and
	// packed.
	Store(w Weight, row int, src Tensor)
	// Linear sets y = x·Wᵀ, or adds to it with acc, for each pair of ys and ws (q, k, v or gate, up
	// at once: x [T, in] is packed once). ys[i] [T, out_i] is act or F32; x is act; the weights
	// have x's dtype.
	Linear(ys []Tensor, x Tensor, ws []Weight, acc bool)
	// LinearDX sets dx = Σ dys[i]·Ws[i], or adds to it with acc; the sum is rounded once. dx
	// [T, in] is act or F32; dys[i] [T, out_i] is act.
	LinearDX(dx Tensor, dys []Tensor, ws []Weight, acc bool)
	// LinearDW adds alpha·dyᵀ·x to dw [out, in] F32. dy [T, out] and x [T, in] are act.
	LinearDW(dw, dy, x Tensor, alpha float32)
	// MatMul sets y = alpha·op(a)·op(b), or adds to it with acc: NN [m,k]·[k,n], NT [m,k]·[n,k]ᵀ,
	// TN [k,m]ᵀ·[k,n]. Meant for LoRA's small factors. a and b have one dtype, act or F32; y is
	// act or F32.
	MatMul(y, a, b Tensor, t Trans, alpha float32, acc bool)

	// Embed sets x[i] = W[ids[i]]. x [T, C] stream, ids I32 [T, 1], w [V, C].
	Embed(x Tensor, w Weight, ids Tensor)
	// EmbedBackward adds dx[i] to dw[ids[i]], in row order. dw [V, C] F32.
	EmbedBackward(dw, dx, ids Tensor)
	// AddBias adds b [1, C] F32 to each row of y [T, C] act.
	AddBias(y, b Tensor)
	// ColumnSum adds the sum over rows of dy [T, C] act to db [1, C] F32.
	ColumnSum(db, dy Tensor)

	// AddRMSNorm first sets x += delta (absent: nothing is added), then
	// rstd[i] = 1/√(mean(x[i]²) + eps) and y[i] = x[i]·rstd[i]·w (arXiv 1910.07467, eq. 4).
	// x [T, C] stream, delta and y [T, C] act, w [1, C], rstd [T, 1].
	AddRMSNorm(y, rstd, x, delta, w Tensor, eps float32)
	// AddRMSNormBackward is given dy, the gradient of y, and dx, the stream's gradient after the
	// norm; it adds the norm's part to dx in place, and writes the result rounded to act into
	// ddelta as well, which is delta's gradient (absent: not written). x is the stream after the
	// addition. dw [1, C] += .
	AddRMSNormBackward(dx, ddelta, dw, dy, x, w, rstd Tensor, eps float32)
	// RoPE rotates each head of x [T, n·headDim] act in place by its position (arXiv 2104.09864,
	// in the half-split order of Hugging Face: element j pairs with j + headDim/2). pos I32 [T, 1];
	// cos, sin [positions, headDim/2] F32, frequency scaling and attention factor included.
	// inverse rotates back, which is the backward operation.
	RoPE(x, pos, cos, sin Tensor, headDim int, inverse bool)
	// SwiGLU sets y = silu(gate)·up (arXiv 2002.05202). All [T, C] act.
	SwiGLU(y, gate, up Tensor)
	// SwiGLUBackward sets dgate and dup from dy and the forward operation's inputs.
	SwiGLUBackward(dgate, dup, dy, gate, up Tensor)

	// Attention is causal softmax attention with grouped queries over a forest: a token sees its
	// segment's ancestors whole, its own segment up to itself, and of those only the last
	// h.Window positions where that is not 0. q, y [T, Q·Dim], k, v [T, KV·Dim] act; lse [T, Q] is
	// the log-sum-exp of each row's scaled scores, for the backward pass. p's layout has no Past.
	Attention(y, lse, q, k, v Tensor, h Heads, p Plan)
	// AttentionBackward sets dq, dk and dv; a parent's keys and values gather from all that
	// continue it, in the order of the layout.
	AttentionBackward(dq, dk, dv, dy, y, lse, q, k, v Tensor, h Heads, p Plan)
	// WriteKV stores the keys and values [T, KV·Dim] of a chunk at their positions in the cache.
	WriteKV(c Cache, k, v Tensor, p Plan)
	// AttentionPaged is Attention of a chunk's queries [T, Q·Dim] over the cache, which holds the
	// chunk's own keys already. p's layout has Past and Pages, and no parents.
	AttentionPaged(y, q Tensor, c Cache, h Heads, p Plan)
	// CopyPages copies page src[i] to page dst[i], for a shared page that is about to be written, in
	// any order: no page of dst is in dst twice, nor in src. dst, src I32 [n, 1].
	CopyPages(c Cache, dst, src Tensor)

	// HeadLogProb sets, for each i < n, with z = x[rows[i]]·Wᵀ (never stored whole):
	// lse[i] = log Σ exp z, logp[i] = z[target[i]] − lse[i], entropy[i] = −Σ p log p in nats, and
	// argmax[i] (lowest id of a tie). x [T, C] act; rows, target, argmax I32 [n, 1]; logp, lse,
	// entropy [n, 1]. entropy and argmax may be absent. A row may be asked for several times, as
	// the last token of a prompt is by each of its answers.
	HeadLogProb(logp, lse, entropy, argmax, x, rows, target Tensor, w Weight)
	// HeadLogProbBackward sets dx [T, C] act = Σ_i coef[i]·∂logp[i]/∂x (rows never asked for
	// become 0; several i of one row add up in their order) and adds to dw [V, C] F32. coef [n, 1]
	// F32 is ∂loss/∂logp.
	HeadLogProbBackward(dx, dw, coef, lse, x, rows, target Tensor, w Weight)
	// Sample draws one token id a row from logits [n, V] F32; see Sampling. ids I32 [n, 1]; logp
	// [n, 1] F32 is log softmax(logits)[id], at temperature 1 and with nothing cut. A row that
	// holds a NaN or whose largest logit is infinite gives id −1.
	Sample(ids, logp, logits Tensor, s *Sampling)

	// SumSquares adds Σ x² to y [1, 1] F32.
	SumSquares(y, x Tensor)
	// ClipFactor sets clip [1, 1] = min(1, maxNorm/(√sumsq + 1e-6)), the rule of
	// torch.nn.utils.clip_grad_norm_; maxNorm 0 means no clipping.
	ClipFactor(clip, sumsq Tensor, maxNorm float32)
	// Optimize takes one step on master (F32) with the gradient g·clip and, where w is not nil,
	// stores the rounded result into w. state: RMSProp {v}, AdamW {m, v}, each of master's shape
	// and 0 before the first step. clip [1, 1] may be absent.
	Optimize(w Weight, master, g Tensor, state []Tensor, clip Tensor, h Optimizer)
}
