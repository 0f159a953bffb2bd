package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// maxFile bounds a run file.
const maxFile = 1 << 20

// Parse reads a run file, YAML or JSON, over the defaults of its preset. name is the file's, for errors, which are one line: file, line, what would be
// right. The result is valid but for the digests of model and data, which are filled in on submission.
func Parse(name string, data []byte) (Spec, error) {
	s, err := ParseOver(name, data, "")
	if err != nil {
		return Spec{}, err
	}
	if err := s.Validate(); err != nil {
		return Spec{}, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// ParseOver is Parse without validation, for a caller that lays flags over the file. preset, if not empty, is taken instead of the file's own.
func ParseOver(name string, data []byte, preset string) (Spec, error) {
	if len(data) > maxFile {
		return Spec{}, fmt.Errorf("%s: %d bytes, a run file has at most %d", name, len(data), maxFile)
	}
	var top map[string]any
	if err := yaml.Unmarshal(data, &top); err != nil {
		return Spec{}, syntaxError(name, err)
	}
	if own, ok := top["preset"]; ok && preset == "" {
		preset = fmt.Sprint(own)
	}
	s, err := Preset(preset)
	if err != nil {
		return Spec{}, fmt.Errorf("%s: %w", name, err)
	}
	if len(top) == 0 { // the decoder would set an empty file to zero
		return s, nil
	}
	chosen := s.Preset
	if err := yaml.UnmarshalWithOptions(data, &s, yaml.Strict()); err != nil {
		return Spec{}, syntaxError(name, err)
	}
	s.Preset = chosen
	return s, nil
}

// syntaxError turns the parser's picture of the source into one line.
func syntaxError(name string, err error) error {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil || at.GetToken().Position == nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return fmt.Errorf("%s: %s", name, first)
	}
	p := at.GetToken().Position
	return fmt.Errorf("%s:%d:%d: %s", name, p.Line, p.Column, strings.ReplaceAll(at.GetMessage(), "\n", " "))
}

// Format writes a spec as a run file, every key included: what --print-config prints. Parse reads it back.
func Format(s Spec) ([]byte, error) {
	b, err := yaml.MarshalWithOptions(s, yaml.Indent(2))
	if err != nil {
		return nil, fmt.Errorf("write a run file: %w", err)
	}
	return b, nil
}

// UnmarshalYAML takes one value or a list.
func (p *PerIteration[T]) UnmarshalYAML(decode func(any) error) error {
	var one T
	if err := decode(&one); err == nil {
		*p = Each(one)
		return nil
	}
	var list []T
	if err := decode(&list); err != nil {
		return fmt.Errorf("want one value, or a list with one for each iteration: %w", err)
	}
	*p = Each(list...)
	return nil
}

// MarshalYAML writes one value or a list.
func (p PerIteration[T]) MarshalYAML() (any, error) { return p.plain(), nil }

// MarshalJSON writes one value or a list.
func (p PerIteration[T]) MarshalJSON() ([]byte, error) { return json.Marshal(p.plain()) }

// UnmarshalJSON takes one value or a list.
func (p *PerIteration[T]) UnmarshalJSON(data []byte) error {
	return p.UnmarshalYAML(func(v any) error { return json.Unmarshal(data, v) })
}

func (p PerIteration[T]) plain() any {
	if len(p.PerIteration) == 1 {
		return p.PerIteration[0]
	}
	return []T(p.PerIteration)
}

// Bytes is a size: a number, or one with KiB, MiB or GiB.
type Bytes int64

// ParseBytes reads a size.
func ParseBytes(s string) (Bytes, error) {
	number, shift := strings.TrimSpace(s), 0
	for suffix, by := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, shift = strings.TrimSpace(rest), by
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return 0, fmt.Errorf("size %q: want bytes, or a number with KiB, MiB or GiB", s)
	}
	return Bytes(n << shift), nil
}

// String is the shortest exact form.
func (b Bytes) String() string {
	for _, unit := range []struct {
		suffix string
		shift  int
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if b != 0 && b%(1<<unit.shift) == 0 {
			return strconv.FormatInt(int64(b)>>unit.shift, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText writes String.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads ParseBytes.
func (b *Bytes) UnmarshalText(text []byte) (err error) {
	*b, err = ParseBytes(string(text))
	return err
}

// UnmarshalJSON also takes a bare number.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	return b.UnmarshalText([]byte(strings.Trim(string(data), `"`)))
}
