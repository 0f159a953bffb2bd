package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Query runs one SQL statement and writes its output, in any of ClickHouse's
// formats by its name (PrettyCompact, JSONEachRow, CSVWithNames, Parquet, …), to
// w as it comes. A FORMAT clause in the statement wins over format. An error
// after the first byte leaves part of the output in w.
func (s *Store) Query(ctx context.Context, sql, format string, w io.Writer) error {
	if s.http == nil {
		return errors.New("sql goes over HTTP: give the server's HTTP interface, e.g. --clickhouse-http-url http://host:8123")
	}
	u := *s.http
	q := u.Query()
	q.Set("default_format", format)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(sql))
	if err != nil {
		return err
	}
	r, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err != nil {
			return fmt.Errorf("clickhouse answers %s: %w", r.Status, err)
		}
		return errors.New(strings.TrimSpace(string(b)))
	}
	out := &tail{w: w}
	if _, err := io.Copy(out, r.Body); err != nil {
		if said := out.exception(); said != "" {
			return errors.New(said)
		}
		return fmt.Errorf("read clickhouse's answer: %w", err)
	}
	return nil
}

// tail passes bytes on and keeps the last of them: a server that fails after it
// began to answer says why there, and then cuts the connection.
type tail struct {
	w    io.Writer
	last []byte
}

const tailLen = 20 << 10 // an exception frame has at most 16 KiB

func (t *tail) Write(p []byte) (int, error) {
	t.last = append(t.last, p...)
	if len(t.last) > tailLen {
		t.last = append(t.last[:0], t.last[len(t.last)-tailLen:]...)
	}
	return t.w.Write(p)
}

// exception is the text between ClickHouse's "\r\n__exception__\r\n" marks.
func (t *tail) exception() string {
	_, after, ok := strings.Cut(string(t.last), "\r\n__exception__\r\n")
	if !ok {
		return ""
	}
	text, _, _ := strings.Cut(after[strings.Index(after, "\n")+1:], "\n")
	return strings.TrimSpace(text)
}

// httpURL is where Query goes, nil if it can't: clickhouse-go's own options are
// left out of it.
func httpURL(o Options) (*url.URL, error) {
	raw := o.HTTPURL
	if raw == "" {
		raw = o.URL
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("clickhouse url: %w", errors.Unwrap(err))
	}
	switch u.Scheme {
	case "http", "https":
	case "clickhouse", "tcp":
		return nil, nil
	default:
		return nil, fmt.Errorf("clickhouse url %s: its scheme must be http, https or clickhouse", redact(raw))
	}
	q := url.Values{}
	if db := strings.Trim(u.Path, "/"); db != "" {
		q.Set("database", db)
	}
	u.Path, u.RawQuery = "/", q.Encode()
	return u, nil
}
