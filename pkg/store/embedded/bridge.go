package embedded

import (
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// bridge answers ClickHouse's HTTP interface for the engine: what clickhouse-go,
// curl and BI tools use of it. Left out, with a clear error: sessions, external
// tables, and native block compression (compress=1).
type bridge struct {
	engine         *engine
	spool          string // folder for the bodies of inserts
	user, password string
	version        string // of ClickHouse
	timezone       string // of the engine
}

func (b *bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-ClickHouse-Server-Display-Name", displayName)
	switch {
	case r.URL.Path == "/ping", r.URL.Path == "/" && r.Method == http.MethodGet && r.URL.RawQuery == "":
		_, _ = io.WriteString(w, "Ok.\n")
		return
	case r.URL.Path != "/":
		http.Error(w, "There is no handle "+r.URL.Path, http.StatusNotFound)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		h.Set("Allow", "GET, POST")
		http.Error(w, "use GET or POST", http.StatusMethodNotAllowed)
		return
	}
	q, err := parseRequest(r.URL.RawQuery, r.Header)
	if err != nil {
		fail(w, err)
		return
	}
	if !b.allowed(r, q) {
		h.Set("WWW-Authenticate", `Basic realm="ClickHouse server HTTP API"`)
		fail(w, exceptionf(codeAuth, "%s: Authentication failed: the name and password are in the file %s of the data folder. (AUTHENTICATION_FAILED)", q.user, TokenFile))
		return
	}
	body, err := decoded(r)
	if err != nil {
		fail(w, err)
		return
	}
	s, remove, err := b.statement(q, body)
	if err != nil {
		fail(w, err)
		return
	}
	defer remove()
	if s.sql == handshake && q.protocol > 0 {
		_, _ = w.Write(handshakeBlock(b.version, b.timezone, q.protocol))
		return
	}
	h.Set("Content-Type", contentType(s.format))
	h.Set("X-ClickHouse-Format", s.format)
	h.Set("X-ClickHouse-Timezone", b.timezone)
	tag := rand.Text()[:16]
	h.Set("X-ClickHouse-Exception-Tag", tag)
	b.answer(r.Context(), w, s, tag)
}

// answer streams the output. A failure before the first byte is a status, one
// after it ClickHouse's exception frame, and then the connection is cut, so
// that no client takes the part for the whole.
func (b *bridge) answer(ctx context.Context, w http.ResponseWriter, s statement, tag string) {
	sent := false
	flush := http.NewResponseController(w)
	err := b.engine.run(ctx, s, func(block []byte) error {
		sent = true
		if _, err := w.Write(block); err != nil {
			return err
		}
		if s.stream {
			return flush.Flush()
		}
		return nil
	})
	switch {
	case err == nil:
	case !sent:
		fail(w, err)
	default:
		msg := err.Error()
		_, _ = fmt.Fprintf(w, "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", tag, msg, len(msg)+1, tag)
		_ = flush.Flush()
		panic(http.ErrAbortHandler)
	}
}

// fail answers an error as ClickHouse does.
func fail(w http.ResponseWriter, err error) {
	code, status := codeUnknown, http.StatusInternalServerError
	var e *Exception
	if errors.As(err, &e) {
		code = e.Code
	}
	switch code {
	case codeAuth:
		status = http.StatusUnauthorized
	case codeSyntax, codeUnknownSetting, codeUnknownFormat:
		status = http.StatusBadRequest
	case codeNotImplemented:
		status = http.StatusNotImplemented
	}
	h := w.Header()
	h.Del("X-ClickHouse-Format")
	h.Set("X-ClickHouse-Exception-Code", strconv.Itoa(code))
	http.Error(w, err.Error(), status)
}

// allowed compares in constant time. Names come as Basic, as ClickHouse's own
// headers or in the URL, like a server takes them.
func (b *bridge) allowed(r *http.Request, q request) bool {
	user, password := q.user, q.password
	if u, p, ok := r.BasicAuth(); ok {
		user, password = u, p
	} else if k := r.Header.Get("X-ClickHouse-Key"); k != "" {
		user, password = r.Header.Get("X-ClickHouse-User"), k
	}
	return subtle.ConstantTimeCompare([]byte(user), []byte(b.user))&
		subtle.ConstantTimeCompare([]byte(password), []byte(b.password)) == 1
}

func decoded(r *http.Request) (io.Reader, error) {
	var d io.Reader
	var err error
	switch e := r.Header.Get("Content-Encoding"); e {
	case "", "identity":
		return r.Body, nil
	case "gzip":
		d, err = gzip.NewReader(r.Body)
	case "deflate":
		d, err = zlib.NewReader(r.Body)
	default:
		return nil, exceptionf(codeNotImplemented, "Content-Encoding %q: the embedded engine takes gzip, deflate or none. (NOT_IMPLEMENTED)", e)
	}
	if err != nil {
		return nil, exceptionf(codeUnknown, "Content-Encoding %s: %v", r.Header.Get("Content-Encoding"), err)
	}
	return d, nil
}

// maxStatement bounds a statement's text without the data of an INSERT. It is
// the engine's max_query_size.
const maxStatement = 256 << 10

// statement makes the request's statement. The data of an INSERT goes through a
// file in the spool, which remove deletes, so that a body of any size takes no
// memory here; small INSERTs with their values in the SQL are left as they are.
func (b *bridge) statement(q request, body io.Reader) (s statement, remove func(), err error) {
	remove = func() {}
	head, err := io.ReadAll(io.LimitReader(body, maxStatement+1))
	if err != nil {
		return s, remove, exceptionf(codeUnknown, "read the request: %v", err)
	}
	if len(head) <= maxStatement {
		body = nil
	}
	sql := q.query
	fromURL := sql != ""
	if !fromURL {
		sql = string(head)
	}
	sh := shapeOf(sql)
	if !fromURL {
		head = nil
	}
	if sh.inserts && (len(head) > 0 || body != nil) {
		file, err := b.spoolBody(sql[sh.data:], head, body)
		if err != nil {
			return s, remove, err
		}
		remove = func() { _ = os.Remove(file) } // a leftover is swept at the next start
		format := sh.format
		clause := strings.TrimSpace(sql[sh.clauses:sh.data])
		if strings.EqualFold(format, "Values") { // VALUES is not a FORMAT clause
			clause = strings.TrimSpace(clause[:len(clause)-len("VALUES")]) + " FORMAT Values"
		}
		sql = sql[:sh.clauses] + " FROM INFILE " + quote(file) + " COMPRESSION 'none' " + clause
	} else {
		sql += string(head) // a server, too, joins the URL's query and the body
		if body != nil {
			return s, remove, exceptionf(codeSyntax, "The statement is longer than %d bytes. (SYNTAX_ERROR)", maxStatement)
		}
		if len(head) > 0 {
			sh = shapeOf(sql)
		}
	}
	switch {
	case sh.verb == "":
		return s, remove, exceptionf(codeSyntax, "Empty query. (SYNTAX_ERROR)")
	case sh.several:
		return s, remove, exceptionf(codeSyntax, "Multi-statements are not allowed: send one statement a request. (SYNTAX_ERROR)")
	case sh.verb == "SET", sh.verb == "USE", sh.temporary:
		return s, remove, exceptionf(codeNotImplemented, "%s needs a session, and the embedded engine has none: give settings and the database in the URL or in the statement. (NOT_IMPLEMENTED)", sh.verb)
	}
	s = statement{
		sql: sql, format: q.format, database: q.database, settings: q.settings, params: q.params,
		killable: !sh.inserts,
	}
	if sh.format != "" && !sh.inserts {
		s.format = sh.format
	}
	switch sh.verb {
	case "SELECT", "WITH", "(", "FROM":
		s.stream = cuttable(s.format) && !q.wait
	}
	return s, remove, nil
}

// spoolBody writes an INSERT's data to a new file of the spool.
func (b *bridge) spoolBody(inline string, head []byte, body io.Reader) (file string, err error) {
	f, err := os.CreateTemp(b.spool, "insert-")
	if err != nil {
		return "", exceptionf(codeUnknown, "spool the insert: %v", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = exceptionf(codeUnknown, "spool the insert: %v", cerr)
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	parts := []io.Reader{strings.NewReader(inline), strings.NewReader(string(head))}
	if body != nil {
		parts = append(parts, body)
	}
	if _, err := io.Copy(f, io.MultiReader(parts...)); err != nil {
		return "", exceptionf(codeUnknown, "spool the insert: %v", err)
	}
	return f.Name(), nil
}

func contentType(format string) string {
	f := strings.ToLower(format)
	switch {
	case f == "json", f == "jsoncompact", f == "jsonstrings", f == "jsoncolumns":
		return "application/json; charset=UTF-8"
	case f == "jsonlines", f == "ndjson", strings.HasSuffix(f, "eachrow"):
		return "application/x-ndjson; charset=UTF-8"
	case strings.HasPrefix(f, "csv"):
		return "text/csv; charset=UTF-8; header=" + map[bool]string{true: "present", false: "absent"}[strings.Contains(f, "names")]
	case strings.HasPrefix(f, "tabseparated"), strings.HasPrefix(f, "tsv"):
		return "text/tab-separated-values; charset=UTF-8"
	case f == "native", f == "parquet", f == "orc", f == "avro", f == "msgpack", strings.HasPrefix(f, "arrow"), strings.HasPrefix(f, "rowbinary"):
		return "application/octet-stream"
	}
	return "text/plain; charset=UTF-8"
}
