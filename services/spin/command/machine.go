package command

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/services/process"
)

// machine is the flags that say which model runs on what.
type machine struct {
	path   string
	engine process.Engine
}

func (m *machine) flags(f *pflag.FlagSet) {
	f.StringVar(&m.path, "model", "", "Hugging Face directory or GGUF file (default: SmolLM2-135M-Instruct, see `make model`)")
	m.engine.Flags(f)
}

// open opens the model and starts the device. Both are the caller's to close.
func (m *machine) open() (*pretrained.Pretrained, compute.Device, compute.DType, error) {
	p, err := m.openModel()
	if err != nil {
		return nil, nil, 0, err
	}
	dev, dtype, err := m.engine.Start()
	if err != nil {
		p.Close()
		return nil, nil, 0, err
	}
	return p, dev, dtype, nil
}

func (m *machine) openModel() (*pretrained.Pretrained, error) {
	path, err := m.modelPath()
	if err != nil {
		return nil, badInput(err)
	}
	p, err := pretrained.Open(path)
	return p, badInput(err)
}

// defaultModel is the file that deploy/fetch.sh leaves in the cache folder.
const defaultModel = "SmolLM2-135M-Instruct.Q4_1.gguf"

func (m *machine) modelPath() (string, error) {
	if m.path != "" {
		return m.path, nil
	}
	cached := filepath.Join(cacheDir(), defaultModel)
	if _, err := os.Stat(cached); err != nil {
		return "", fmt.Errorf("no model: give --model DIR or FILE.gguf, or fetch the default one with `make model` (looked for %s)", cached)
	}
	return cached, nil
}

// cacheDir is where fetched files lie: $SPIN_CACHE, else $XDG_CACHE_HOME/spin, else ~/.cache/spin.
func cacheDir() string {
	if dir := os.Getenv("SPIN_CACHE"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "spin")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "."
	}
	return filepath.Join(home, ".cache", "spin")
}

// load makes the model's weights ready to score and to sample, or, with full or lora, to train.
func load(p *pretrained.Pretrained, dev compute.Device, opt model.Options) (*model.Model, error) {
	m, err := model.New(dev, dev.NewBackend(), p.ModelConfig, p, opt)
	if err != nil {
		return nil, badInput(fmt.Errorf("model %s: %w", p.Path, err))
	}
	return m, nil
}
