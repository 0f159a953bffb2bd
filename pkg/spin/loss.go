package spin

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Loss is the ℓ of equation (4.7), a function of the margin t. Assumption 5.1 asks
// for a convex ℓ with ℓ'(0) < 0; these are the four that the paper names.
type Loss uint8

const (
	// Logistic is ℓ(t) = log(1 + e^−t), the paper's choice: its gradient fades as the
	// policy wins, so f does not grow without bound. TRL calls it "sigmoid".
	Logistic Loss = iota
	// Hinge is ℓ(t) = max(0, 1 − t).
	Hinge
	// Exponential is ℓ(t) = e^−t. It overflows at margins below about −709.
	Exponential
	// Correlation is ℓ(t) = 1 − t: the integral probability metric of (4.1) itself.
	// It has no lower bound, so only few or small steps tame it.
	Correlation
)

var names = [...]string{Logistic: "logistic", Hinge: "hinge", Exponential: "exponential", Correlation: "correlation"}

// ParseLoss returns the loss of that name: logistic, hinge, exponential or correlation.
func ParseLoss(name string) (Loss, error) {
	i := slices.Index(names[:], name)
	if i < 0 {
		return 0, fmt.Errorf("loss %q: want one of %s", name, strings.Join(names[:], ", "))
	}
	return Loss(i), nil
}

// String returns the name that ParseLoss reads.
func (l Loss) String() string {
	if int(l) < len(names) {
		return names[l]
	}
	return fmt.Sprintf("Loss(%d)", uint8(l))
}

// MarshalText writes the loss by name.
func (l Loss) MarshalText() ([]byte, error) {
	if int(l) >= len(names) {
		return nil, fmt.Errorf("loss %d is not one of %s", uint8(l), strings.Join(names[:], ", "))
	}
	return []byte(l.String()), nil
}

// UnmarshalText is the inverse of MarshalText.
func (l *Loss) UnmarshalText(text []byte) error {
	parsed, err := ParseLoss(string(text))
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}

// Value returns ℓ(t). NaN gives NaN.
func (l Loss) Value(t float64) float64 {
	switch l {
	case Logistic:
		if t > 0 {
			return math.Log1p(math.Exp(-t))
		}
		return math.Log1p(math.Exp(t)) - t // e^−t would overflow
	case Hinge:
		return max(0, 1-t)
	case Exponential:
		return math.Exp(-t)
	case Correlation:
		return 1 - t
	}
	panic("spin: unknown loss")
}

// Derivative returns ℓ'(t), never positive. The hinge has none at t = 1; there it
// is 0, as in PyTorch's relu.
func (l Loss) Derivative(t float64) float64 {
	switch l {
	case Logistic: // −σ(−t)
		if t > 0 {
			e := math.Exp(-t)
			return -e / (1 + e)
		}
		return -1 / (1 + math.Exp(t))
	case Hinge:
		if t < 1 {
			return -1
		}
		return 0
	case Exponential:
		return -math.Exp(-t)
	case Correlation:
		return -1
	}
	panic("spin: unknown loss")
}
