package bus

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
)

// The limits that deploy/nats has for a cluster are the defaults with three copies.
func TestClusterLimits(t *testing.T) {
	data, err := os.ReadFile("../../deploy/nats/limits-r3.json")
	if err != nil {
		t.Fatal(err)
	}
	var got Limits
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := DefaultLimits()
	want.Replicas = 3
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
