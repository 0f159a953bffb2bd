package optim

import (
	"fmt"
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

// RMSProp returns the reference recipe's optimizer with torch.optim.RMSprop's
// constants. It corrects no bias: its first step is 1/√(1−α) = 10 times the learning
// rate in every coordinate, so warm up.
func RMSProp() compute.Optimizer {
	return compute.Optimizer{Kind: compute.RMSProp, Alpha: 0.99, Eps: 1e-8}
}

// AdamW returns torch.optim.AdamW with its constants, weight decay 0.01 included
// (transformers' Trainer and TRL take 0 there).
func AdamW() compute.Optimizer {
	return compute.Optimizer{Kind: compute.AdamW, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01}
}

// ParseRule returns the optimizer of that name with its default constants: rmsprop or
// adamw.
func ParseRule(name string) (compute.Optimizer, error) {
	switch name {
	case "rmsprop":
		return RMSProp(), nil
	case "adamw":
		return AdamW(), nil
	}
	return compute.Optimizer{}, fmt.Errorf("optimizer %q: want rmsprop or adamw", name)
}

// Validate reports constants that cannot be trained with. LR and Step are not looked
// at: New's steps set them.
func Validate(rule compute.Optimizer) error {
	within := func(name string, v float64) error {
		if !(v >= 0 && v < 1) {
			return fmt.Errorf("%s %v: want at least 0 and below 1", name, v)
		}
		return nil
	}
	switch rule.Kind {
	case compute.RMSProp:
		if err := within("alpha", rule.Alpha); err != nil {
			return err
		}
	case compute.AdamW:
		if err := within("beta1", rule.Beta1); err != nil {
			return err
		}
		if err := within("beta2", rule.Beta2); err != nil {
			return err
		}
	default:
		return fmt.Errorf("optimizer %d: unknown", rule.Kind)
	}
	if !(rule.Eps > 0) || math.IsInf(rule.Eps, 0) {
		return fmt.Errorf("eps %v: want a positive number", rule.Eps)
	}
	if !(rule.WeightDecay >= 0) || math.IsInf(rule.WeightDecay, 0) {
		return fmt.Errorf("weight decay %v: want 0 or more", rule.WeightDecay)
	}
	return nil
}

// moments names the state that the rule keeps for each parameter, in the order that
// compute.Backend.Optimize takes it, by torch's names.
func moments(kind compute.OptimizerKind) []string {
	if kind == compute.AdamW {
		return []string{"exp_avg", "exp_avg_sq"}
	}
	return []string{"square_avg"}
}

// StateBytes returns the device memory that the rule's state takes for parameters of
// so many elements: 4 bytes for each moment of each element (8 on compute/ref).
func StateBytes(kind compute.OptimizerKind, elements int64) int64 {
	return 4 * int64(len(moments(kind))) * elements
}
