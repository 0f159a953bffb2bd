package optim

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Shape is how the learning rate moves after the warm-up.
type Shape uint8

const (
	Linear   Shape = iota // falls to 0 in a straight line
	Cosine                // falls to 0 along half a cosine
	Constant              // stays
)

var shapes = [...]string{Linear: "linear", Cosine: "cosine", Constant: "constant"}

// ParseShape returns the shape of that name: linear, cosine or constant.
func ParseShape(name string) (Shape, error) {
	i := slices.Index(shapes[:], name)
	if i < 0 {
		return 0, fmt.Errorf("schedule %q: want one of %s", name, strings.Join(shapes[:], ", "))
	}
	return Shape(i), nil
}

// String returns the name that ParseShape reads.
func (s Shape) String() string {
	if int(s) < len(shapes) {
		return shapes[s]
	}
	return fmt.Sprintf("Shape(%d)", uint8(s))
}

// MarshalText writes the shape by name.
func (s Shape) MarshalText() ([]byte, error) {
	if int(s) >= len(shapes) {
		return nil, fmt.Errorf("schedule %d is not one of %s", uint8(s), strings.Join(shapes[:], ", "))
	}
	return []byte(s.String()), nil
}

// UnmarshalText is the inverse of MarshalText.
func (s *Shape) UnmarshalText(text []byte) error {
	parsed, err := ParseShape(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// Schedule gives each step its learning rate. Its values are those of transformers'
// get_scheduler: linear, cosine (half a cycle), constant_with_warmup.
type Schedule struct {
	Shape  Shape
	LR     float64 // the peak, reached at step Warmup+1
	Warmup int     // steps of linear rise from 0; see WarmupSteps
	// Horizon is the number of steps over which the rate falls to 0. Training may stop
	// before it: the reference plans 6 epochs and stops after 2, at about 74 % of the
	// peak, which a 2-epoch schedule would never show. Unused by Constant.
	Horizon int
}

// Validate reports a schedule that cannot be trained with.
func (s Schedule) Validate() error {
	switch {
	case int(s.Shape) >= len(shapes):
		return fmt.Errorf("schedule %d: unknown", uint8(s.Shape))
	case !(s.LR > 0) || math.IsInf(s.LR, 0):
		return fmt.Errorf("learning rate %v: want a positive number", s.LR)
	case s.Warmup < 0:
		return fmt.Errorf("warm-up of %d steps: want 0 or more", s.Warmup)
	case s.Shape != Constant && s.Horizon <= 0:
		return fmt.Errorf("horizon of %d steps: want at least 1", s.Horizon)
	case s.Shape != Constant && s.Warmup > s.Horizon:
		return fmt.Errorf("warm-up of %d steps: want at most the horizon's %d", s.Warmup, s.Horizon)
	}
	return nil
}

// At returns the learning rate that step ≥ 1 takes. As in transformers, the first
// step of a warm-up has rate 0 and so changes nothing. Past the horizon the rate stays
// 0, where transformers' cosine would rise again.
func (s Schedule) At(step int) float64 {
	if step < 1 {
		panic("optim: steps count from 1")
	}
	done := step - 1 // what transformers calls current_step
	if done < s.Warmup {
		return s.LR * (float64(done) / float64(s.Warmup))
	}
	if s.Shape == Constant {
		return s.LR
	}
	if done >= s.Horizon {
		return 0
	}
	span := float64(max(1, s.Horizon-s.Warmup))
	if s.Shape == Linear {
		return s.LR * (float64(s.Horizon-done) / span)
	}
	progress := float64(done-s.Warmup) / span
	return s.LR * (0.5 * (1 + math.Cos(math.Pi*progress)))
}

// WarmupSteps turns a warm-up given as a share of the horizon into steps: rounded up,
// as transformers does.
func WarmupSteps(share float64, horizon int) int {
	return int(math.Ceil(share * float64(horizon)))
}
