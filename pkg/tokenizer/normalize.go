package tokenizer

import (
	"fmt"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// A hostile chain of replacements could make text grow without end: the product of what each step can do is bounded.
const maxGrowth = 64

// component is a normalizer, pre-tokenizer or decoder of tokenizer.json, the fields of all kinds in one.
type component struct {
	Type string `json:"type"`

	Normalizers   []component `json:"normalizers"`
	Pretokenizers []component `json:"pretokenizers"`
	Decoders      []component `json:"decoders"`

	Pattern          *pattern `json:"pattern"`
	Content          string   `json:"content"`
	Prepend          string   `json:"prepend"`
	Behavior         string   `json:"behavior"`
	Invert           bool     `json:"invert"`
	IndividualDigits bool     `json:"individual_digits"`
	AddPrefixSpace   *bool    `json:"add_prefix_space"`
	UseRegex         *bool    `json:"use_regex"`
	Replacement      string   `json:"replacement"`
	PrependScheme    string   `json:"prepend_scheme"`
	Split            *bool    `json:"split"`
	Start            int      `json:"start"`
	Stop             int      `json:"stop"`
}

type pattern struct {
	String *string `json:"String"`
	Regex  *string `json:"Regex"`
}

// flatten returns the steps of a component: itself, or what a Sequence holds, Sequences inside it taken apart too.
func (c *component) flatten() ([]component, error) {
	var steps []component
	var walk func(c component, depth int) error
	walk = func(c component, depth int) error {
		if c.Type != "Sequence" {
			steps = append(steps, c)
			if len(steps) > 64 {
				return fmt.Errorf("more than 64 steps")
			}
			return nil
		}
		if depth > 8 {
			return fmt.Errorf("sequences nested more than 8 deep")
		}
		for _, list := range [][]component{c.Normalizers, c.Pretokenizers, c.Decoders} {
			for _, inner := range list {
				if err := walk(inner, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if c == nil {
		return nil, nil
	}
	err := walk(*c, 0)
	return steps, err
}

// normalizer rewrites text.
type normalizer struct {
	apply  func(string) string
	prefix bool // puts something in front, which a text that goes on after another doesn't want
	folds  bool // makes other characters of some
}

// newNormalizer returns the steps that text runs through, in order.
func newNormalizer(c *component) ([]normalizer, error) {
	steps, err := c.flatten()
	if err != nil {
		return nil, err
	}
	var list []normalizer
	growth := 1
	for _, step := range steps {
		switch step.Type {
		case "NFC":
			list = append(list, normalizer{apply: norm.NFC.String, folds: true})
		case "NFD":
			list = append(list, normalizer{apply: norm.NFD.String, folds: true})
		case "NFKC":
			list = append(list, normalizer{apply: norm.NFKC.String, folds: true})
		case "NFKD":
			list = append(list, normalizer{apply: norm.NFKD.String, folds: true})
		case "Prepend":
			if len(step.Prepend) > maxGrowth {
				return nil, fmt.Errorf("a Prepend of more than %d bytes", maxGrowth)
			}
			list = append(list, normalizer{prefix: true, apply: func(s string) string {
				if s == "" {
					return s
				}
				return step.Prepend + s
			}})
		case "Replace":
			if step.Pattern == nil || step.Pattern.String == nil || *step.Pattern.String == "" {
				return nil, fmt.Errorf("a Replace without a pattern of kind String")
			}
			old := *step.Pattern.String
			growth *= 1 + len(step.Content)/len(old)
			if growth > maxGrowth {
				return nil, fmt.Errorf("replacements that make text more than %d times longer", maxGrowth)
			}
			list = append(list, normalizer{apply: strings.NewReplacer(old, step.Content).Replace})
		default:
			return nil, fmt.Errorf("type %q isn't known (known: Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace)", step.Type)
		}
	}
	return list, nil
}
