package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// engine is the process's one ClickHouse engine, bound to one folder, with a
// pool of clients. A client runs one statement at a time; clients run side by
// side.
type engine struct {
	lib    *library
	args   []string
	pool   chan *client // each of cap(pool) clients is here or with the statement that uses it
	serial atomic.Uint64

	killer sync.Mutex
	spare  *client // guarded by killer; kills statements while the whole pool is busy
}

// client is one connection: a chdb_connection *. It is nil after a statement
// left it in doubt; the next statement opens another.
type client struct{ conn unsafe.Pointer }

const (
	defaultDatabase = "default"
	killEvery       = 200 * time.Millisecond // a kill may come before its statement: repeat it
)

func openEngine(libPath, dir, configFile string, clients int) (*engine, error) {
	lib, err := load(libPath)
	if err != nil {
		return nil, err
	}
	e := &engine{lib: lib, args: []string{"clickhouse", "--path=" + dir}, pool: make(chan *client, clients), spare: new(client)}
	if configFile != "" {
		e.args = append(e.args, "--config-file="+configFile)
	}
	for range clients {
		e.pool <- new(client)
	}
	// All connections are made now: an engine that lost its last one unbinds.
	if err := e.connect(e.spare); err != nil {
		return nil, err
	}
	for range clients {
		c := <-e.pool
		err := e.connect(c)
		e.pool <- c
		if err != nil {
			return nil, errors.Join(err, e.close(context.Background()))
		}
	}
	return e, nil
}

func (e *engine) connect(c *client) (err error) {
	if c.conn == nil {
		c.conn, err = e.lib.open(e.args)
	}
	return err
}

func (e *engine) disconnect(c *client) {
	if c.conn != nil {
		e.lib.closeConn(c.conn)
		c.conn = nil
	}
}

// close waits for the statements under way; once ctx ends it kills them. The
// engine lets go of its folder with its last client.
func (e *engine) close(ctx context.Context) error {
	done := make(chan struct{})
	defer close(done)
	stop := context.AfterFunc(ctx, func() { e.kill("", done) })
	defer stop()
	for range cap(e.pool) {
		select {
		case c := <-e.pool:
			e.disconnect(c)
		case <-afterDone(ctx, 5*time.Second): // freeing a client that still runs would crash the process
			return errors.New("close the ClickHouse engine: a statement does not stop; its folder stays locked until the process ends")
		}
	}
	e.killer.Lock()
	defer e.killer.Unlock()
	e.disconnect(e.spare)
	return nil
}

// afterDone is closed d after ctx ends.
func afterDone(ctx context.Context, d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(d, func() { close(c) }) })
	return c
}

// kill stops the statements whose text ends with mark (all of them if mark is
// empty), again and again until done is closed.
func (e *engine) kill(mark string, done <-chan struct{}) {
	where := "query_id != queryID()"
	if mark != "" {
		where = "endsWith(query, " + quote(mark) + ")"
	}
	tick := time.NewTicker(killEvery)
	defer tick.Stop()
	for {
		e.killer.Lock()
		if e.spare.conn != nil {
			// Best effort: what is not killed ends by itself.
			_ = e.exec(e.spare, "KILL QUERY WHERE "+where+" ASYNC")
		}
		e.killer.Unlock()
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// Param is a name with a value: a setting, or a query parameter {name:Type}.
type Param struct{ Name, Value string }

// statement is what one request runs.
type statement struct {
	sql      string
	format   string // of the output, unless sql has a FORMAT clause
	database string // "" is the default
	settings []Param
	params   []Param
	stream   bool // the output's format can be cut into blocks
	killable bool // sql can take a comment at its end
}

// run executes s on a free client and hands its output to emit, block by
// block for a streaming one. The bytes are valid only during the call. When ctx
// ends, the statement is killed.
func (e *engine) run(ctx context.Context, s statement, emit func([]byte) error) error {
	var c *client
	select {
	case c = <-e.pool:
	case <-ctx.Done():
		return exceptionf(codeCancelled, "No free client: %v. (QUERY_WAS_CANCELLED)", ctx.Err())
	}
	defer func() { e.pool <- c }()
	if err := e.connect(c); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return exceptionf(codeCancelled, "%v. (QUERY_WAS_CANCELLED)", err)
	}

	// Settings and the database belong to a client's session, so they are put
	// back after the statement; a client that can't be put back is replaced.
	var before, after []string
	if s.database != "" && s.database != defaultDatabase {
		before, after = append(before, "USE "+quoteName(s.database)), append(after, "USE "+defaultDatabase)
	}
	if len(s.settings) > 0 {
		set, reset := make([]string, len(s.settings)), make([]string, len(s.settings))
		for i, p := range s.settings {
			set[i], reset[i] = p.Name+" = "+quote(p.Value), p.Name+" = DEFAULT"
		}
		before, after = append(before, "SET "+strings.Join(set, ", ")), append(after, "SET "+strings.Join(reset, ", "))
	}
	for _, sql := range before {
		if err := e.exec(c, sql); err != nil {
			e.disconnect(c)
			return err
		}
	}
	defer func() {
		for _, sql := range after {
			if e.exec(c, sql) != nil {
				e.disconnect(c)
				return
			}
		}
	}()

	if s.killable {
		mark := fmt.Sprintf("\n-- spin %d", e.serial.Add(1))
		s.sql += mark
		done := make(chan struct{})
		defer close(done)
		stop := context.AfterFunc(ctx, func() { e.kill(mark, done) })
		defer stop()
	}
	if s.stream {
		return e.stream(c, s, emit)
	}
	return e.query(c, s, emit)
}

func (e *engine) exec(c *client, sql string) error {
	return e.query(c, statement{sql: sql, format: "Null"}, func([]byte) error { return nil })
}

// query runs s to its end and emits the whole output at once.
func (e *engine) query(c *client, s statement, emit func([]byte) error) error {
	r := e.lib.call(e.lib.query, c.conn, s.sql, s.format, s.params)
	if r != nil {
		defer e.lib.destroy(r)
	}
	if err := e.lib.check(r); err != nil {
		return err
	}
	if b := e.lib.bytes(r); len(b) > 0 {
		return emit(b)
	}
	return nil
}

// stream runs s as far as emit takes its blocks.
func (e *engine) stream(c *client, s statement, emit func([]byte) error) error {
	h := e.lib.call(e.lib.stream, c.conn, s.sql, s.format, s.params)
	if h != nil {
		defer e.lib.destroy(h)
	}
	if err := e.lib.check(h); err != nil {
		// Only SELECT can be streamed; the engine says so before it runs anything.
		if strings.Contains(err.Error(), "Streaming query is not supported") {
			return e.query(c, s, emit)
		}
		return err
	}
	for {
		more, err := e.block(c, h, emit)
		if err != nil || !more {
			return err
		}
	}
}

// block emits a stream's next block. The last one is empty.
func (e *engine) block(c *client, h unsafe.Pointer, emit func([]byte) error) (more bool, err error) {
	r := e.lib.fetch(*(*unsafe.Pointer)(c.conn), h)
	if r != nil {
		defer e.lib.destroy(r)
	}
	if err := e.lib.check(r); err != nil {
		return false, err
	}
	b := e.lib.bytes(r)
	if len(b) == 0 {
		return false, nil
	}
	if err := emit(b); err != nil {
		e.lib.cancel(*(*unsafe.Pointer)(c.conn), h)
		return false, err
	}
	return true, nil
}

// quote makes a string literal of s, for any s.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// quoteName makes an identifier of s, for any s.
func quoteName(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(s) + "`"
}
