package gguf

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrNoKey is wrapped by the errors of Metadata's getters where the key is absent.
var ErrNoKey = errors.New("no such key")

// Metadata is an ordered list of key-value pairs. Values have one of the Go types uint8, int8, uint16, int16, uint32,
// int32, uint64, int64, float32, float64, bool, string, a slice of one of these, or [][]… as []any for arrays of arrays.
type Metadata struct {
	keys   []string
	values map[string]any
}

// Keys returns all keys in order.
func (m *Metadata) Keys() []string { return slices.Clone(m.keys) }

// Value returns a value, or nil if the key is absent.
func (m *Metadata) Value(key string) any { return m.values[key] }

// Has says whether the key is there.
func (m *Metadata) Has(key string) bool { _, ok := m.values[key]; return ok }

// Set adds a pair, or replaces a value in its place. The value must have one of the types above; Write says if not.
func (m *Metadata) Set(key string, value any) {
	if m.values == nil {
		m.values = make(map[string]any)
	}
	if !m.Has(key) {
		m.keys = append(m.keys, key)
	}
	m.values[key] = value
}

// String returns a string.
func (m *Metadata) String(key string) (string, error) { return get[string](m, key, "a string") }

// Bool returns a bool.
func (m *Metadata) Bool(key string) (bool, error) { return get[bool](m, key, "a bool") }

// Strings returns an array of strings. It is not copied.
func (m *Metadata) Strings(key string) ([]string, error) {
	return get[[]string](m, key, "an array of strings")
}

// Int returns an integer, of whatever width it is stored.
func (m *Metadata) Int(key string) (int, error) {
	value, err := m.lookup(key)
	if err != nil {
		return 0, err
	}
	switch v := value.(type) {
	case uint8:
		return int(v), nil
	case int8:
		return int(v), nil
	case uint16:
		return int(v), nil
	case int16:
		return int(v), nil
	case uint32:
		return int(v), nil
	case int32:
		return int(v), nil
	case uint64:
		if v <= math.MaxInt {
			return int(v), nil
		}
	case int64:
		return int(v), nil
	}
	return 0, mismatch(key, value, "an integer")
}

// Float returns a number, of whatever type it is stored.
func (m *Metadata) Float(key string) (float64, error) {
	switch v := m.values[key].(type) {
	case float32:
		return float64(v), nil
	case float64:
		return v, nil
	}
	i, err := m.Int(key)
	if err != nil && !errors.Is(err, ErrNoKey) {
		return 0, mismatch(key, m.values[key], "a number")
	}
	return float64(i), err
}

// Ints returns an array of integers, of whatever width they are stored.
func (m *Metadata) Ints(key string) ([]int, error) {
	return numbers[int](m, key, "an array of integers", func(array any) ([]int, bool) {
		switch v := array.(type) {
		case []uint8:
			return convert[int](v), true
		case []int8:
			return convert[int](v), true
		case []uint16:
			return convert[int](v), true
		case []int16:
			return convert[int](v), true
		case []uint32:
			return convert[int](v), true
		case []int32:
			return convert[int](v), true
		case []uint64:
			return convert[int](v), !slices.ContainsFunc(v, func(u uint64) bool { return u > math.MaxInt })
		case []int64:
			return convert[int](v), true
		}
		return nil, false
	})
}

// Floats returns an array of floating-point numbers.
func (m *Metadata) Floats(key string) ([]float32, error) {
	return numbers[float32](m, key, "an array of numbers", func(array any) ([]float32, bool) {
		switch v := array.(type) {
		case []float32:
			return v, true
		case []float64:
			return convert[float32](v), true
		}
		return nil, false
	})
}

func (m *Metadata) lookup(key string) (any, error) {
	value, ok := m.values[key]
	if !ok {
		return nil, fmt.Errorf("metadata %q: %w", key, ErrNoKey)
	}
	return value, nil
}

func get[T any](m *Metadata, key, want string) (T, error) {
	value, err := m.lookup(key)
	if err != nil {
		return *new(T), err
	}
	v, ok := value.(T)
	if !ok {
		return v, mismatch(key, value, want)
	}
	return v, nil
}

func numbers[T any](m *Metadata, key, want string, as func(any) ([]T, bool)) ([]T, error) {
	value, err := m.lookup(key)
	if err != nil {
		return nil, err
	}
	v, ok := as(value)
	if !ok {
		return nil, mismatch(key, value, want)
	}
	return v, nil
}

func convert[T, S int | float32 | float64 | uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64 | int64](s []S) []T {
	out := make([]T, len(s))
	for i, v := range s {
		out[i] = T(v)
	}
	return out
}

func mismatch(key string, value any, want string) error {
	return fmt.Errorf("metadata %q is of type %T, not %s", key, value, want)
}
