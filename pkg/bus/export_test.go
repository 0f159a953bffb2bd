package bus

import (
	"context"

	"github.com/nats-io/nats.go"
)

// PublishRaw puts bytes on a stream that no service would send.
func (c *Conn) PublishRaw(ctx context.Context, subject, schema string, data []byte) error {
	_, err := c.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: nats.Header{schemaHeader: {schema}}, Data: data})
	return err
}

// Attempts lists what the attempts bucket holds.
func (c *Conn) Attempts(ctx context.Context) ([]Entry, error) { return c.attempts.List(ctx, ">") }
