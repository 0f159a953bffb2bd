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

// Overwrite puts other bytes into the parts of a blob.
func (o *Objects) Overwrite(ctx context.Context, digest string, data []byte) error {
	for at := 0; at < len(data); at += objectPart {
		if _, err := o.store.PutBytes(ctx, partName(digest, int64(at/objectPart)), data[at:min(at+objectPart, len(data))]); err != nil {
			return err
		}
	}
	return nil
}
