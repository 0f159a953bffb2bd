package bus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
)

// A service takes the broker's limits, or is refused where it insists on others: with another time to
// live it would lose leases that it believes to hold.
func TestLimitsAreTheBrokers(t *testing.T) {
	b := newBroker(t, quick())
	for _, open := range []struct {
		name string
		how  func(bus.Limits) (*bus.Conn, error)
	}{
		{"Connect", func(l bus.Limits) (*bus.Conn, error) {
			return bus.Connect(t.Context(), bus.Config{Server: b, Name: "test", Limits: l}, zerolog.Nop())
		}},
		{"Init", func(l bus.Limits) (*bus.Conn, error) {
			return bus.Init(t.Context(), bus.Config{Server: b, Name: "test", Limits: l}, zerolog.Nop())
		}},
	} {
		c, err := open.how(bus.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Limits(); got != quick() {
			t.Errorf("%s without limits has %+v, want the broker's", open.name, got)
		}
		c.Close()
	}
	other := quick()
	other.LeaseTTL = 3 * time.Second
	_, err := bus.Connect(t.Context(), bus.Config{Server: b, Name: "test", Limits: other}, zerolog.Nop())
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "lease_ttl is 1s there, 3s here") {
		t.Errorf("other limits: %v", err)
	}
	c, err := bus.Init(t.Context(), bus.Config{Server: b, Name: "test", Limits: other}, zerolog.Nop()) // the owner changes them
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if c, err = bus.Connect(t.Context(), bus.Config{Server: b, Name: "test"}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	if got := c.Limits(); got != other {
		t.Errorf("limits %+v, want the new ones", got)
	}
	c.Close()
}

// Who makes the streams may say how many copies there are; a broker that is alone can't have three, and says so.
func TestReplicas(t *testing.T) {
	b := newBroker(t, quick())
	c, err := bus.Init(t.Context(), bus.Config{Server: b, Name: "test", Replicas: 1}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Limits(); got != quick() {
		t.Errorf("limits %+v, want the broker's", got)
	}
	c.Close()
	if _, err = bus.Init(t.Context(), bus.Config{Server: b, Name: "test", Replicas: 3}, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "replicas") {
		t.Errorf("three copies on one broker: %v", err)
	}
}
