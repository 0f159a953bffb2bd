// Package event is the vocabulary that every service speaks: the messages of proto/spin/v1, the subjects they travel on, and what makes one valid.
//
//	Chunk        trainer -> generators   some prompts to play
//	Game         generator -> trainer, recorder   one prompt, its answers, their log-probabilities
//	Step, PairTraces   trainer -> recorder   what one optimizer step did, in total and pair by pair
//	Checkpoint   trainer -> all   theta_t is there, and where
//	Score        evaluator -> trainer, recorder   one figure of one checkpoint
//	Event, DeadLetter   all -> people
//
// Fields are content (the same run made twice writes the same) or circumstance (times, hosts, attempts), the latter only inside Circumstance.
//
// Bytes off the bus are not trusted: Unmarshal bounds size and count before it decodes, and returns only what Validate accepts. The package knows
// no broker; pkg/bus moves what is defined here.
package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// MaxBytes is the largest encoded message: the broker's max_payload less room for headers.
	MaxBytes = 8<<20 - 4096
	// maxNested bounds the sub-messages of one message, which cost 2 bytes on the wire and hundreds in memory.
	maxNested = 1 << 16
)

// HoleUnplayable is the reason of a hole that max_missing allowed, and of one that a person made without giving another: the same hole has the same
// digest, whoever made it.
const HoleUnplayable = "no generator could play it"

// ErrInvalid is wrapped by every error about a message's bytes or fields: retrying can't help.
var ErrInvalid = errors.New("invalid message")

// Message is one of the package's messages.
type Message interface {
	proto.Message
	// Subject is where the message is published; only of a valid message.
	Subject() string
	// Validate reports the first field that a reader could not work with, wrapping ErrInvalid.
	Validate() error
	// GetRunId is the run the message belongs to.
	GetRunId() string
	// GetCircumstance is what depends on luck; may be nil.
	GetCircumstance() *Circumstance
}

// Schema is the message's full protobuf name, e.g. spin.v1.Game: the value of the Spin-Schema header.
func Schema(m Message) string { return string(m.ProtoReflect().Descriptor().FullName()) }

// New returns an empty message of a schema.
func New(schema string) (Message, error) {
	switch schema {
	case "spin.v1.Chunk":
		return new(Chunk), nil
	case "spin.v1.Game":
		return new(Game), nil
	case "spin.v1.Step":
		return new(Step), nil
	case "spin.v1.PairTraces":
		return new(PairTraces), nil
	case "spin.v1.Checkpoint":
		return new(Checkpoint), nil
	case "spin.v1.Score":
		return new(Score), nil
	case "spin.v1.Event":
		return new(Event), nil
	case "spin.v1.DeadLetter":
		return new(DeadLetter), nil
	}
	return nil, fmt.Errorf("schema %.64q is not known to this version: %w", schema, ErrInvalid)
}

// Marshal validates and encodes, the same bytes for the same message.
func Marshal(m Message) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%s: %v: %w", Schema(m), err, ErrInvalid)
	}
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%s of %d bytes, the most is %d: %w", Schema(m), len(b), MaxBytes, ErrInvalid)
	}
	return b, nil
}

// Unmarshal decodes bytes off the bus. It never panics, takes memory in proportion to len(data), and returns only valid messages.
func Unmarshal(schema string, data []byte) (Message, error) {
	m, err := New(schema)
	if err != nil {
		return nil, err
	}
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%s of %d bytes, the most is %d: %w", schema, len(data), MaxBytes, ErrInvalid)
	}
	nested := maxNested
	if err := countNested(m.ProtoReflect().Descriptor(), data, &nested); err != nil {
		return nil, fmt.Errorf("%s: %w", schema, err)
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("%s: %v: %w", schema, err, ErrInvalid)
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, nil
}

// countNested walks the wire format without building anything and takes one from budget for each sub-message and each repeated string.
func countNested(d protoreflect.MessageDescriptor, b []byte, budget *int) error {
	for len(b) > 0 {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%v: %w", protowire.ParseError(n), ErrInvalid)
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(number, wire, b)
		if n < 0 {
			return fmt.Errorf("field %d: %v: %w", number, protowire.ParseError(n), ErrInvalid)
		}
		if field := d.Fields().ByNumber(number); field != nil && wire == protowire.BytesType {
			sub := field.Kind() == protoreflect.MessageKind
			if sub || (field.IsList() && field.Kind() == protoreflect.StringKind) {
				if *budget--; *budget < 0 {
					return fmt.Errorf("more than %d parts: %w", maxNested, ErrInvalid)
				}
			}
			if sub {
				value, _ := protowire.ConsumeBytes(b)
				if err := countNested(field.Message(), value, budget); err != nil {
					return err
				}
			}
		}
		b = b[n:]
	}
	return nil
}

// SameContent reports whether two messages say the same, circumstance left out.
func SameContent(a, b Message) bool {
	return Schema(a) == Schema(b) && proto.Equal(content(a), content(b))
}

func content(m Message) proto.Message {
	c := proto.Clone(m)
	r := c.ProtoReflect()
	if f := r.Descriptor().Fields().ByName("circumstance"); f != nil {
		r.Clear(f)
	}
	return c
}

// JSON is the message in one line under its proto names, for `spin tap` and people.
func JSON(m Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Schema(m), err)
	}
	var line bytes.Buffer // protojson varies its spaces on purpose
	if err := json.Compact(&line, b); err != nil {
		return nil, fmt.Errorf("%s: %w", Schema(m), err)
	}
	return line.Bytes(), nil
}
