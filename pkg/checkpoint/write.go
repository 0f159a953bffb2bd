package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/file"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
)

// Files are what a folder holds besides weights.
type Files struct {
	Config           []byte // config.json; its torch_dtype is set to what is written
	GenerationConfig []byte // generation_config.json; {} if nil

	// Tokenizer writes tokenizer.json and tokenizer_config.json into dir: (*tokenizer.Tokenizer).Save. Nil: none.
	Tokenizer func(dir string) error
}

// Options of Write. The zero value is ready to use.
type Options struct {
	DType         safetensors.DType // F32 if empty
	MaxShardBytes int64             // safetensors.DefaultShard if 0
	Replace       bool              // a folder that is there already is replaced; else it is an error
}

// Write writes a model to the folder dir, as AutoModelForCausalLM.from_pretrained of transformers loads it. The folder
// appears when it is complete and on the disk; after an error dir is as it was. src must have exactly the weights that
// Config asks for; one is held in memory at a time.
func Write(dir string, files Files, src Source, o Options) error {
	if o.DType == "" {
		o.DType = safetensors.F32
	}
	if err := write(dir, files, src, o); err != nil {
		return fmt.Errorf("write checkpoint %s: %w", dir, err)
	}
	return nil
}

func write(dir string, files Files, src Source, o Options) error {
	config, err := parseConfig(files.Config)
	if err != nil {
		return fmt.Errorf("config.json: %w", err)
	}
	if err := checkSource(config, src); err != nil {
		return err
	}
	configJSON, err := withDType(files.Config, o.DType)
	if err != nil {
		return err
	}
	if !o.Replace {
		if _, err := os.Lstat(dir); err == nil {
			return errors.New("it exists already: choose another name or remove it")
		}
	}
	d, err := file.CreateDir(dir)
	if err != nil {
		return err
	}
	defer d.Abort()
	var tensors []safetensors.Tensor
	for _, p := range config.parameters() {
		tensors = append(tensors, safetensors.Tensor{Name: p.name, DType: o.DType, Shape: p.shape})
	}
	if err := safetensors.Write(d.Path(), tensors, safetensors.Options{MaxShardBytes: o.MaxShardBytes}, src.ReadF32); err != nil {
		return err
	}
	if err := d.WriteFile("config.json", configJSON); err != nil {
		return err
	}
	generation := files.GenerationConfig
	if generation == nil {
		generation = []byte("{}\n")
	}
	if err := d.WriteFile("generation_config.json", generation); err != nil {
		return err
	}
	if files.Tokenizer != nil {
		if err := files.Tokenizer(d.Path()); err != nil {
			return err
		}
	}
	return d.Commit(o.Replace)
}

// checkSource checks that src has exactly the weights that the configuration asks for.
func checkSource(c config, src Source) error {
	parameters := byName(c.parameters())
	for name, p := range parameters {
		shape, ok := src.Shape(name)
		if !ok {
			return fmt.Errorf("weight %q is missing: config.json asks for it", name)
		}
		if !slices.Equal(shape, p.shape) {
			return fmt.Errorf("weight %q has shape %v: config.json asks for %v", name, shape, p.shape)
		}
	}
	for _, name := range src.Names() {
		if _, ok := parameters[name]; !ok {
			return fmt.Errorf("weight %q has no place in a %s model with this config.json", name, c.ModelType)
		}
	}
	return nil
}

// withDType names the type that weights are stored in, for transformers would round them to what config.json says, and
// drops the mark of a quantised model, which what is written is not.
func withDType(config []byte, d safetensors.DType) ([]byte, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(config, &m); err != nil {
		return nil, err
	}
	name := map[safetensors.DType]string{safetensors.F32: `"float32"`, safetensors.F16: `"float16"`, safetensors.BF16: `"bfloat16"`}[d]
	if name == "" {
		return nil, fmt.Errorf("weights cannot be stored as %q: use F32, F16 or BF16", d)
	}
	if _, ok := m["dtype"]; ok { // its name in transformers 5, which goes before the older one
		m["dtype"] = json.RawMessage(name)
	}
	m["torch_dtype"] = json.RawMessage(name)
	delete(m, "quantization_config")
	out, err := json.MarshalIndent(m, "", "  ")
	return append(out, '\n'), err
}
