//go:build cuda

package cuda

//go:generate go run -tags cuda ./nvrtc/compile kernels

import (
	"crypto/sha256"
	"embed"
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

//go:embed kernels/*.ptx
var images embed.FS

// pair is a kernel's forms for act F32 and BF16, or for elements of 4 and of 2 bytes.
type pair [2]driver.Kernel

func (p *pair) of(dt compute.DType) driver.Kernel {
	if dt == compute.BF16 {
		return p[1]
	}
	return p[0]
}

// kernels are the loaded device functions, one field a source.
type kernels struct {
	linearF32, linearBF16 driver.Kernel // y of x's dtype
	linearBF16F32         driver.Kernel // y F32, x BF16
	linearDX              pair
	linearDXBF16F32       driver.Kernel       // dx F32, dy BF16
	matMul                [2][2]driver.Kernel // by the operands' dtype and y's
	matMulMixed           driver.Kernel       // a F32, b BF16, y F32
	addBias               pair
	columnSum, normDW     pair
	embedBackward         driver.Kernel
	addRMSNormBackward    pair
	swiGLUBackward        pair
	attention             pair
	attentionDQ           pair
	attentionDKV          pair
	headLogProb, headDZ   driver.Kernel
	headDX                pair
	sumSquares, sumParts  driver.Kernel
	clipFactor            driver.Kernel
	rmsProp, adamW        pair // by the weight's dtype
	embed                 pair
	addRMSNorm            pair
	rope                  pair
	swiGLU                pair
	writeKV, copyPages    pair // by width
	attentionPaged        pair
	sample                driver.Kernel
	copy                  [2][2]driver.Kernel // by dst's dtype and src's
	copyI32               driver.Kernel
	gather, zero          pair // by width
}

// attentionShared is the most dynamic shared memory of attention, in bytes: every GPU since Ampere has
// 99 KiB for a block, and some of it is static.
const attentionShared = 98 << 10

// loadKernels gives every image to the driver, and finds its functions.
func loadKernels(ctx *driver.Context) (k kernels, err error) {
	for _, source := range []struct {
		name    string
		shared  int
		kernels map[string]*driver.Kernel
	}{
		{"attention", attentionShared, map[string]*driver.Kernel{
			"attention_f32": &k.attention[0], "attention_bf16": &k.attention[1],
			"attention_dq_f32": &k.attentionDQ[0], "attention_dq_bf16": &k.attentionDQ[1],
			"attention_dkv_f32": &k.attentionDKV[0], "attention_dkv_bf16": &k.attentionDKV[1]}},
		{"attention_paged", attentionShared, map[string]*driver.Kernel{
			"attention_paged_f32": &k.attentionPaged[0], "attention_paged_bf16": &k.attentionPaged[1],
			"write_kv_b32": &k.writeKV[0], "write_kv_b16": &k.writeKV[1],
			"copy_pages_b32": &k.copyPages[0], "copy_pages_b16": &k.copyPages[1]}},
		{"bias", 0, map[string]*driver.Kernel{"add_bias_f32": &k.addBias[0], "add_bias_bf16": &k.addBias[1]}},
		{"embed", 0, map[string]*driver.Kernel{"embed_f32": &k.embed[0], "embed_bf16": &k.embed[1]}},
		{"column_sum", 0, map[string]*driver.Kernel{
			"column_sum_f32": &k.columnSum[0], "column_sum_bf16": &k.columnSum[1],
			"rms_norm_dw_f32": &k.normDW[0], "rms_norm_dw_bf16": &k.normDW[1]}},
		{"embed_backward", 0, map[string]*driver.Kernel{"embed_backward": &k.embedBackward}},
		{"head", 0, map[string]*driver.Kernel{
			"head_log_prob": &k.headLogProb, "head_dz": &k.headDZ, "head_dx_f32": &k.headDX[0], "head_dx_bf16": &k.headDX[1]}},
		{"linear_dx", 0, map[string]*driver.Kernel{
			"linear_dx_f32_f32": &k.linearDX[0], "linear_dx_bf16_bf16": &k.linearDX[1], "linear_dx_bf16_f32": &k.linearDXBF16F32}},
		{"matmul", 0, map[string]*driver.Kernel{
			"matmul_f32_f32_f32": &k.matMul[0][0], "matmul_f32_f32_bf16": &k.matMul[0][1],
			"matmul_bf16_bf16_f32": &k.matMul[1][0], "matmul_bf16_bf16_bf16": &k.matMul[1][1], "matmul_f32_bf16_f32": &k.matMulMixed}},
		{"norm_backward", 0, map[string]*driver.Kernel{
			"add_rms_norm_backward_f32": &k.addRMSNormBackward[0], "add_rms_norm_backward_bf16": &k.addRMSNormBackward[1]}},
		{"optimize", 0, map[string]*driver.Kernel{
			"sum_squares": &k.sumSquares, "sum_parts": &k.sumParts, "clip_factor": &k.clipFactor,
			"rms_prop_f32": &k.rmsProp[0], "rms_prop_bf16": &k.rmsProp[1], "adam_w_f32": &k.adamW[0], "adam_w_bf16": &k.adamW[1]}},
		{"swiglu_backward", 0, map[string]*driver.Kernel{"swiglu_backward_f32": &k.swiGLUBackward[0], "swiglu_backward_bf16": &k.swiGLUBackward[1]}},
		{"linear", 0, map[string]*driver.Kernel{"linear_f32_f32": &k.linearF32, "linear_bf16_bf16": &k.linearBF16, "linear_bf16_f32": &k.linearBF16F32}},
		{"move", 0, map[string]*driver.Kernel{
			"copy_f32_f32": &k.copy[0][0], "copy_f32_bf16": &k.copy[0][1], "copy_bf16_f32": &k.copy[1][0], "copy_bf16_bf16": &k.copy[1][1], "copy_i32": &k.copyI32,
			"gather_b32": &k.gather[0], "gather_b16": &k.gather[1], "zero_b32": &k.zero[0], "zero_b16": &k.zero[1]}},
		{"norm", 0, map[string]*driver.Kernel{"add_rms_norm_f32": &k.addRMSNorm[0], "add_rms_norm_bf16": &k.addRMSNorm[1]}},
		{"rope", 0, map[string]*driver.Kernel{"rope_f32": &k.rope[0], "rope_bf16": &k.rope[1]}},
		{"sample", 0, map[string]*driver.Kernel{"sample": &k.sample}},
		{"swiglu", 0, map[string]*driver.Kernel{"swiglu_f32": &k.swiGLU[0], "swiglu_bf16": &k.swiGLU[1]}},
	} {
		image, err := images.ReadFile("kernels/" + source.name + ".ptx")
		if err != nil {
			return k, err
		}
		module, err := ctx.Load(image)
		if err != nil {
			return k, fmt.Errorf("%s: %w", source.name, err)
		}
		for name, to := range source.kernels {
			if *to, err = module.Kernel(name, source.shared); err != nil {
				return k, err
			}
		}
	}
	return k, nil
}

// kernelVersion is a digest of all images.
func kernelVersion() string {
	h := sha256.New()
	files, _ := images.ReadDir("kernels")
	for _, f := range files {
		b, _ := images.ReadFile("kernels/" + f.Name())
		fmt.Fprintln(h, f.Name(), len(b))
		h.Write(b)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:4])
}
