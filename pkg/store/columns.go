package store

import (
	"fmt"
	"reflect"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
)

// appendColumn appends one field of all rows, a slice of structs, to its column. The driver's own way, AppendStruct, makes an interface of every value
// and of every element of every array, each an allocation: at ten thousand games a second that is most of what an insert costs. So whole columns are
// handed over, and where the driver wants single values, pointers, which are interfaces without allocating.
func appendColumn(c column.Interface, rows reflect.Value, field int) error {
	switch t := rows.Type().Elem().Field(field).Type; t {
	case reflect.TypeFor[string]():
		if _, ok := c.(*column.LowCardinality); ok {
			return appendRepeated(c, rows, field)
		}
		return appendPlain[string](c, rows, field)
	case reflect.TypeFor[uint32]():
		return appendPlain[uint32](c, rows, field)
	case reflect.TypeFor[uint64]():
		return appendPlain[uint64](c, rows, field)
	case reflect.TypeFor[float32]():
		return appendPlain[float32](c, rows, field)
	case reflect.TypeFor[float64]():
		return appendPlain[float64](c, rows, field)
	case reflect.TypeFor[bool]():
		return appendPlain[bool](c, rows, field)
	case reflect.TypeFor[time.Time]():
		return appendPlain[time.Time](c, rows, field)
	case reflect.TypeFor[*time.Time]():
		return appendPlain[*time.Time](c, rows, field)
	case reflect.TypeFor[[]uint32]():
		return appendArrays[uint32](c, rows, field)
	case reflect.TypeFor[[]float32]():
		return appendArrays[float32](c, rows, field)
	case reflect.TypeFor[[]string]():
		return appendArrays[string](c, rows, field)
	default:
		return fmt.Errorf("no way to append a %v", t)
	}
}

// value points to a row's field.
func value[T any](rows reflect.Value, row, field int) *T {
	return rows.Index(row).Field(field).Addr().Interface().(*T)
}

func appendPlain[T any](c column.Interface, rows reflect.Value, field int) error {
	values := make([]T, rows.Len())
	for i := range values {
		values[i] = *value[T](rows, i, field)
	}
	_, err := c.Append(values)
	return err
}

// appendRepeated is for names that are the same in row after row.
func appendRepeated(c column.Interface, rows reflect.Value, field int) error {
	last, boxed := "", any("")
	for i := range rows.Len() {
		if v := *value[string](rows, i, field); v != last {
			last, boxed = v, v
		}
		if err := c.AppendRow(boxed); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	return nil
}

func appendArrays[T any](c column.Interface, rows reflect.Value, field int) error {
	var elements []*T
	for i := range rows.Len() {
		values := *value[[]T](rows, i, field)
		elements = elements[:0]
		for k := range values {
			elements = append(elements, &values[k])
		}
		if err := c.AppendRow(elements); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	return nil
}
