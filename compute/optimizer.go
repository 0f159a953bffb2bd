package compute

// OptimizerKind is an update rule.
type OptimizerKind uint8

const (
	// RMSProp is torch.optim.RMSprop, not centred, without momentum:
	// v = α·v + (1−α)·g²; w −= lr·g/(√v + ε), with g += decay·w first.
	RMSProp OptimizerKind = iota
	// AdamW is torch.optim.AdamW (arXiv 1711.05101): w −= lr·decay·w;
	// m = β₁·m + (1−β₁)·g; v = β₂·v + (1−β₂)·g²; w −= lr·m̂/(√v̂ + ε), hats bias-corrected by Step.
	AdamW
)

// Optimizer is the settings of one step. The masters' arithmetic is F32, the factors are computed
// in float64 and rounded once.
type Optimizer struct {
	Kind         OptimizerKind
	LR           float64
	Alpha        float64 // RMSProp's α
	Beta1, Beta2 float64 // AdamW's
	Eps          float64
	WeightDecay  float64
	Step         int // 1 at the first step; AdamW's bias correction
}
