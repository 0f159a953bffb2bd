// Package bustest puts on a broker what no service of ours would send: for tests of who has to live with it.
package bustest

import (
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// PublishRaw publishes bytes on a subject, and waits for the stream to have them. server is an embedded.Server.
func PublishRaw(t testing.TB, server interface{ InProcessConn() (net.Conn, error) }, subject, schema string, data []byte) {
	t.Helper()
	c, err := nats.Connect("", nats.InProcessServer(server))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.RequestMsg(&nats.Msg{Subject: subject, Header: nats.Header{"Spin-Schema": {schema}}, Data: data}, 10*time.Second); err != nil {
		t.Fatalf("publish %s: %v", subject, err)
	}
}
