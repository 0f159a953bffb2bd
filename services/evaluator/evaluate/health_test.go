package evaluate

import (
	"math"
	"testing"
)

func TestTooFlat(t *testing.T) {
	// From the instruct model, without fine-tuning, entropy rose from 3.20 to 4.41 over two iterations while the human NLL fell to 4.00.
	for _, c := range []struct {
		entropy, nll figure
		want         string
	}{
		{figure{value: 3.20, n: 64}, figure{value: 4.26, n: 64}, ""},
		{figure{value: 4.00, n: 64}, figure{value: 4.00, n: 64}, ""},
		{figure{value: 4.41, n: 64}, figure{value: 4.00, n: 64}, "θ_2 answers with an entropy of 4.41 nats a token, above the human NLL of 4.00: its answers ramble"},
		{figure{value: 4.41, stderr: 0.15, n: 64}, figure{value: 4.00, stderr: 0.15, n: 64}, ""}, // may be chance
		{figure{value: 4.41, n: 64}, figure{}, ""},
		{figure{value: math.NaN(), n: 64}, figure{value: 4, n: 64}, ""},
	} {
		if got := tooFlat("θ_2", c.entropy, c.nll); got != c.want {
			t.Errorf("%v over %v: %q, want %q", c.entropy.value, c.nll.value, got, c.want)
		}
	}
}
