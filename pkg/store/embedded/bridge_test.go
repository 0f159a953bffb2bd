package embedded_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// client sends statements to a bridge, as curl would.
type client struct {
	t    *testing.T
	base string
}

func serve(t *testing.T) (c client, dir string) {
	t.Helper()
	dir = t.TempDir()
	srv, _ := storetest.Serve(t, dir)
	return client{t, srv.URL()}, dir
}

// do posts body with the URL parameters, "a=b" each.
func (c client) do(ctx context.Context, body io.Reader, params ...string) (*http.Response, error) {
	c.t.Helper()
	q := url.Values{}
	for _, p := range params {
		k, v, _ := strings.Cut(p, "=")
		q.Set(k, v)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"?"+q.Encode(), body)
	if err != nil {
		c.t.Fatal(err)
	}
	return http.DefaultClient.Do(req)
}

// sql is the answer to one statement, and its status and exception code.
func (c client) sql(sql string, params ...string) (answer string, status int, code string) {
	c.t.Helper()
	r, err := c.do(c.t.Context(), strings.NewReader(sql), params...)
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b), r.StatusCode, r.Header.Get("X-ClickHouse-Exception-Code")
}

func (c client) must(sql string, params ...string) string {
	c.t.Helper()
	answer, status, _ := c.sql(sql, params...)
	if status != http.StatusOK {
		c.t.Fatalf("%s: %d %s", sql, status, answer)
	}
	return strings.TrimSuffix(answer, "\n")
}

func (c client) want(want, sql string, params ...string) {
	c.t.Helper()
	if got := c.must(sql, params...); got != want {
		c.t.Errorf("%s %q: %q, want %q", sql, params, got, want)
	}
}

func TestBridgeSettingsAndParams(t *testing.T) {
	c, _ := serve(t)
	c.want("3", "SELECT getSetting('max_threads')", "max_threads=3")
	for range 8 { // on every client of the pool: the setting was put back
		c.want("0", "SELECT changed FROM system.settings WHERE name = 'max_block_size'")
		c.must("SELECT 1", "max_block_size=17")
	}
	c.want(`it\'s \\ a\ntoken`, "SELECT getSetting('insert_deduplication_token')", "insert_deduplication_token=it's \\ a\ntoken")
	c.want("ab", "SELECT {x:String}", "param_x=ab")
	c.want(`'); DROP TABLE x; --`, "SELECT {x:String} FORMAT TSVRaw SETTINGS max_threads = 1", "param_x='); DROP TABLE x; --", "max_block_size=3")
	c.want("[1,2]\t7", "SELECT {xs:Array(UInt8)}, {y:Int8} FORMAT TSV", "param_xs=[1,2]", "param_y=7")
	c.must("CREATE DATABASE other")
	c.want("other", "SELECT currentDatabase()", "database=other")
	c.want("default", "SELECT currentDatabase()")
	c.want(`{"a":1}`, "SELECT 1 AS a", "default_format=JSONEachRow")
	c.want("1", "SELECT 1 AS a FORMAT CSV", "default_format=JSONEachRow")
	c.want("2", "1", "query=SELECT 1 + ") // a server joins the two
	c.want("2", "SELECT 1 /* FORMAT JSON */ + 1 -- FORMAT XML")
}

func TestBridgeErrors(t *testing.T) {
	c, _ := serve(t)
	for _, x := range []struct {
		sql, params string
		status      int
		code, says  string
	}{
		{"SELEC 1", "", 400, "62", "SYNTAX_ERROR"},
		{"", "", 400, "62", "Empty query"},
		{" -- nothing\n", "", 400, "62", "Empty query"},
		{"SELECT * FROM nosuch", "", 500, "60", "UNKNOWN_TABLE"},
		{"SELECT 1", "no_such_setting=1", 400, "115", "no_such_setting"},
		{"SELECT 1", "max_threads;DROP=1", 400, "115", "Unknown setting"},
		{"SELECT 1", "max_threads = 1, x=1", 400, "115", "Unknown setting"},
		{"SELECT 1", "max_threads=many", 500, "", "many"},
		{"SELECT 1", "default_format=Nope", 400, "73", "Nope"},
		{"SELECT 1", "database=nosuch", 500, "81", "nosuch"},
		{"SELECT {x:String}", "", 500, "456", "x"},
		{"SELECT 1; SELECT 2", "", 400, "62", "Multi-statements"},
		{"SET max_threads = 1", "", 501, "48", "session"},
		{"USE system", "", 501, "48", "session"},
		{"CREATE TEMPORARY TABLE x (a UInt8)", "", 501, "48", "session"},
		{"SELECT 1", "session_id=1", 501, "48", "sessions"},
		{"SELECT 1", "compress=1", 501, "48", "compress"},
		{"SELECT '" + strings.Repeat("x", 300<<10) + "'", "", 400, "62", "longer than"},
	} {
		var params []string
		if x.params != "" {
			params = append(params, x.params)
		}
		answer, status, code := c.sql(x.sql, params...)
		if status != x.status || x.code != "" && code != x.code || !strings.Contains(answer, x.says) {
			t.Errorf("%.40q %q: %d code %s %.200q, want %d code %s %q", x.sql, x.params, status, code, answer, x.status, x.code, x.says)
		}
	}
	c.want("1", "SELECT 1;") // and all clients still work
	c.want("2", "SELECT getSetting('max_threads') SETTINGS max_threads = 2")
}

func TestBridgeAuth(t *testing.T) {
	c, dir := serve(t)
	for _, f := range []string{"token", "url", "lock"} {
		i, err := os.Stat(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if i.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, i.Mode())
		}
	}
	u, err := url.Parse(c.base)
	if err != nil {
		t.Fatal(err)
	}
	token, _ := u.User.Password()
	get := func(path string, change func(*http.Request)) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+u.Host+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, r.Header.Get("X-ClickHouse-Exception-Code") + " " + string(b)
	}
	nothing := func(*http.Request) {}
	const one = "/?query=SELECT+1"
	for _, x := range []struct {
		name, path string
		change     func(*http.Request)
		status     int
		starts     string
	}{
		{"none", one, nothing, 401, "516 "},
		{"wrong", one, func(r *http.Request) { r.SetBasicAuth("spin", token+"x") }, 401, "516 "},
		{"wrong name", one, func(r *http.Request) { r.SetBasicAuth("default", token) }, 401, "516 "},
		{"empty", one, func(r *http.Request) { r.SetBasicAuth("spin", "") }, 401, "516 "},
		{"basic", one, func(r *http.Request) { r.SetBasicAuth("spin", token) }, 200, " 1"},
		{"headers", one, func(r *http.Request) {
			r.Header.Set("X-ClickHouse-User", "spin")
			r.Header.Set("X-ClickHouse-Key", token)
		}, 200, " 1"},
		{"url", one + "&user=spin&password=" + token, nothing, 200, " 1"},
		{"ping", "/ping", nothing, 200, " Ok."},
		{"root", "/", nothing, 200, " Ok."},
		{"elsewhere", "/play", nothing, 404, " There is no handle"},
	} {
		if status, body := get(x.path, x.change); status != x.status || !strings.HasPrefix(body, x.starts) || strings.Contains(body, token) {
			t.Errorf("%s: %d %q", x.name, status, body)
		}
	}
}

func TestBridgeStreams(t *testing.T) {
	c, _ := serve(t)
	// The first rows come while the statement is far from its end.
	ctx, cancel := context.WithCancel(t.Context())
	r, err := c.do(ctx, strings.NewReader("SELECT number FROM system.numbers FORMAT RowBinary"))
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 16)
	if _, err := io.ReadFull(r.Body, first); err != nil || first[8] != 1 {
		t.Errorf("%v %v", first, err)
	}
	// A client that goes away ends its statement.
	cancel()
	r.Body.Close()
	c.quiet("system.numbers")

	// Formats that are one document are one, however many blocks they have.
	if got := c.must("SELECT number FROM numbers(200000)", "default_format=CSVWithNames"); strings.Count(got, "number") != 1 || strings.Count(got, "\n") != 200000 {
		t.Errorf("%d headers, %d lines", strings.Count(got, "number"), strings.Count(got, "\n"))
	}
	if got := c.must("SELECT sum(number) FROM numbers(200000) FORMAT JSON"); strings.Count(got, `"meta"`) != 1 {
		t.Error(got)
	}
}

func TestBridgeKillsWhatNobodyWaitsFor(t *testing.T) {
	c, _ := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { // no block ever comes, and none is asked for
		_, err := c.do(ctx, strings.NewReader("SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 3 FORMAT JSON"))
		done <- err
	}()
	for c.must("SELECT count() FROM system.processes WHERE query LIKE '%sipHash64(number) = 3%' AND query NOT LIKE '%processes%'") == "0" {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	c.quiet("sipHash64")
}

// quiet waits until no statement with the text runs.
func (c client) quiet(text string) {
	c.t.Helper()
	for c.must("SELECT count() FROM system.processes WHERE query LIKE '%"+text+"%' AND query NOT LIKE '%processes%'") != "0" {
		select {
		case <-c.t.Context().Done():
			c.t.Fatal("it still runs")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestBridgeCutsWhatFailsHalfWay(t *testing.T) {
	c, _ := serve(t)
	r, err := c.do(t.Context(), strings.NewReader("SELECT throwIf(number = 5000000) FROM numbers(10000000)"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if r.StatusCode != http.StatusOK || err == nil {
		t.Errorf("status %d, %d bytes, then %v: a client could take it for the whole", r.StatusCode, len(b), err)
	}
	tail := string(b[max(0, len(b)-1000):])
	if tag := r.Header.Get("X-ClickHouse-Exception-Tag"); len(tag) != 16 || !strings.Contains(tail, "\r\n__exception__\r\n"+tag+"\r\nCode: 395. DB::Exception") {
		t.Errorf("tag %q, end %q", tag, tail)
	}
	// With wait_end_of_query nothing comes before all is well.
	if _, status, code := c.sql("SELECT throwIf(number = 5000000) FROM numbers(10000000)", "wait_end_of_query=1"); status != 500 || code != "395" {
		t.Errorf("wait_end_of_query: %d %s", status, code)
	}
}

func TestBridgeInserts(t *testing.T) {
	c, dir := serve(t)
	c.must("CREATE TABLE x (a UInt32, b String) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
	post := func(body io.Reader, params ...string) {
		t.Helper()
		r, err := c.do(t.Context(), body, params...)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if b, err := io.ReadAll(r.Body); err != nil || r.StatusCode != 200 {
			t.Fatalf("%d %s %v", r.StatusCode, b, err)
		}
	}
	c.must("INSERT INTO x VALUES (1, 'FORMAT CSV'), (2, 'b;')")
	c.must("INSERT INTO x (b, a) FORMAT CSV\nc,3\n")
	c.must("INSERT INTO x SELECT 4, 'd' FORMAT Null")
	post(strings.NewReader("5\te\n"), "query=INSERT INTO x FORMAT TSV")
	post(strings.NewReader("(6, 'f'), (6 + 1, concat('g', '!'))"), "query=INSERT INTO x VALUES")
	post(strings.NewReader(`{"a": 8, "b": "h"}`), "query=INSERT INTO x (a, b) SETTINGS input_format_skip_unknown_fields = 1 FORMAT JSONEachRow")
	c.want("36\t8", "SELECT sum(a), count() FROM x")
	for range 2 { // exactly once
		post(strings.NewReader("9\ti\n"), "query=INSERT INTO x FORMAT TSV", "insert_deduplication_token=t'1", "async_insert=0")
	}
	c.want("1", "SELECT count() FROM x WHERE a = 9")

	// A statement with a long tail of data in the body goes through the spool,
	// too; 40 MB by CSV.
	var csv bytes.Buffer
	csv.WriteString("INSERT INTO x FORMAT CSV\n")
	for i := range 400_000 {
		fmt.Fprintf(&csv, "%d,%090d\n", 1000+i, i)
	}
	post(bytes.NewReader(csv.Bytes()))
	c.want("400000\t1000\t400999", "SELECT count(), min(a), max(a) FROM x WHERE a >= 1000")

	// gzip, and a broken body that leaves no row and no file.
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	fmt.Fprintln(w, "10\tz")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for i, body := range [][]byte{z.Bytes(), z.Bytes()[:z.Len()-6]} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.base+"?query=INSERT+INTO+x+FORMAT+TSV", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Encoding", "gzip")
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if want := []int{200, 500}[i]; r.StatusCode != want {
			t.Errorf("gzip body %d: %d, want %d", i, r.StatusCode, want)
		}
	}
	c.want("1", "SELECT count() FROM x WHERE a = 10")
	if _, status, code := c.sql("999999\tz\nnot a number\tz\n", "query=INSERT INTO x FORMAT TSV"); status != 500 || code != "27" {
		t.Errorf("bad row: %d %s", status, code)
	}
	c.want("0", "SELECT count() FROM x WHERE a = 999999")
	if left, err := os.ReadDir(filepath.Join(dir, "spool")); err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v %v", left, err)
	}
}

func TestBridgeRunsSideBySide(t *testing.T) {
	c, _ := serve(t)
	c.must("CREATE TABLE x (a UInt64, who UInt8) ENGINE = MergeTree ORDER BY a")
	var wg sync.WaitGroup
	for who := range 12 {
		wg.Go(func() {
			for i := range 4 {
				name := fmt.Sprintf("max_block_size=%d", 1000+who)
				if got, status, _ := c.sql("SELECT getSetting('max_block_size'), {w:UInt8}", name, fmt.Sprintf("param_w=%d", who)); status != 200 || got != fmt.Sprintf("%d\t%d\n", 1000+who, who) {
					t.Errorf("%d: %d %q", who, status, got)
				}
				if got, status, _ := c.sql(fmt.Sprintf("INSERT INTO x VALUES (%d, %d)", i, who)); status != 200 {
					t.Errorf("%d: %d %q", who, status, got)
				}
				if got, status, code := c.sql("SELECT throwIf(1)"); status != 500 || code != "395" {
					t.Errorf("%d: %d %q", who, status, got)
				}
			}
		})
	}
	wg.Wait()
	c.want("48\t12", "SELECT count(), uniqExact(who) FROM x")
}
