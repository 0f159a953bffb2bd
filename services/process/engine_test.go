package process

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/cli"
)

// What cannot be computed on is refused in one line; auto takes the CPU where there is no GPU, and
// says so in one line. (Built with -tags cuda and run beside a GPU, auto takes that.)
func TestDevice(t *testing.T) {
	for _, tt := range []struct{ device, want, note string }{
		{"cpu", "cpu/", ""},
		{"auto", "", "--device auto: computing on the CPU: "},
		{"abacus", "", `--device "abacus", want cpu, cuda:N (cuda:0 is the first GPU) or auto`},
		{"cuda", "", `--device "cuda", want cpu, cuda:N`},
		{"cuda:-1", "", `--device "cuda:-1", want cpu, cuda:N`},
		{"7", "", `--device "7", want cpu, cuda:N`},
		{"cuda:65535", "", "--device cuda:65535: "},
	} {
		var notes strings.Builder
		e := Engine{Notes: &notes}
		f := pflag.NewFlagSet("service", pflag.ContinueOnError)
		e.Flags(f)
		if err := f.Parse([]string{"--device", tt.device, "--threads", "1"}); err != nil {
			t.Fatal(err)
		}
		dev, err := e.Open()
		if dev != nil {
			fingerprint := dev.Fingerprint()
			dev.Close()
			if !strings.HasPrefix(fingerprint, tt.want) || tt.device != "cpu" && tt.device != "auto" {
				t.Errorf("--device %s computes on %s", tt.device, fingerprint)
			}
			if onCPU := strings.HasPrefix(fingerprint, "cpu/"); onCPU && !strings.HasPrefix(notes.String(), tt.note) || strings.Count(notes.String(), "\n") > 1 {
				t.Errorf("--device %s notes %q, want %q and no other line", tt.device, notes.String(), tt.note)
			}
			continue
		}
		if cli.ExitCode(err) != cli.ExitBadInput || !strings.Contains(err.Error(), tt.note) || tt.note == "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("--device %s: %v, want bad input with %q", tt.device, err, tt.note)
		}
	}
}
