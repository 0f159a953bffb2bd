package embedded

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library is the part of libchdb's C interface (chdb.h) that the engine needs.
// Strings cross as pointer and length, so SQL and values may hold any byte.
type library struct {
	connect     func(argc int32, argv unsafe.Pointer) unsafe.Pointer // chdb_connection *
	closeConn   func(conn unsafe.Pointer)
	query       func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) unsafe.Pointer
	stream      func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) unsafe.Pointer
	fetch       func(conn, stream unsafe.Pointer) unsafe.Pointer
	cancel      func(conn, stream unsafe.Pointer)
	buffer      func(result unsafe.Pointer) unsafe.Pointer
	length      func(result unsafe.Pointer) uintptr
	errorText   func(result unsafe.Pointer) string
	destroy     func(result unsafe.Pointer)
	keepSignals func(enabled int32)

	restoreFaults func() // after each connect
}

// load opens the shared library. It stays mapped until the process ends: its
// threads and static destructors do not survive being unmapped.
func load(path string) (*library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("load the ClickHouse engine %s: %w", path, err)
	}
	lib := &library{restoreFaults: keepFaults()}
	for _, f := range []struct {
		name string
		ptr  any
	}{
		{"chdb_connect", &lib.connect},
		{"chdb_close_conn", &lib.closeConn},
		{"chdb_query_with_params_n", &lib.query},
		{"chdb_stream_query_with_params_n", &lib.stream},
		{"chdb_stream_fetch_result", &lib.fetch},
		{"chdb_stream_cancel_query", &lib.cancel},
		{"chdb_result_buffer", &lib.buffer},
		{"chdb_result_length", &lib.length},
		{"chdb_result_error", &lib.errorText},
		{"chdb_destroy_query_result", &lib.destroy},
		{"chdb_set_signal_handlers_enabled", &lib.keepSignals},
	} {
		symbol, err := purego.Dlsym(handle, f.name)
		if err != nil {
			return nil, fmt.Errorf("load the ClickHouse engine %s: it does not export %s; want libchdb of %s", path, f.name, Package)
		}
		purego.RegisterFunc(f.ptr, symbol)
	}
	lib.keepSignals(0) // the Go runtime owns SIGSEGV and its kin; keepFaults does what this leaves undone
	return lib, nil
}

// errInUse is what a nil connection means: the engine prints its reason (code
// 76, "Another server instance…") to its own log only.
var errInUse = errors.New("the engine refused the folder: another engine has it open, or this process has an engine on another folder")

// open makes one connection: an independent client of the process's one engine.
func (lib *library) open(args []string) (unsafe.Pointer, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	argv := make([]unsafe.Pointer, len(args))
	for i, a := range args {
		b := append([]byte(a), 0)
		argv[i] = unsafe.Pointer(&b[0])
		pin.Pin(argv[i])
	}
	pin.Pin(&argv[0])
	p := lib.connect(int32(len(args)), unsafe.Pointer(&argv[0]))
	lib.restoreFaults()
	if p == nil {
		return nil, errInUse
	}
	return p, nil
}

// call runs one statement by lib.query or lib.stream. conn is what open returned.
func (lib *library) call(f func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) unsafe.Pointer,
	conn unsafe.Pointer, sql, format string, params []Param) unsafe.Pointer {
	var pin runtime.Pinner
	defer pin.Unpin()
	text := func(s string) unsafe.Pointer {
		b := append([]byte(s), 0)
		pin.Pin(&b[0])
		return unsafe.Pointer(&b[0])
	}
	n := len(params)
	names, values := make([]unsafe.Pointer, n+1), make([]unsafe.Pointer, n+1) // +1: &names[0] exists for n = 0
	nameLens, valueLens := make([]uintptr, n+1), make([]uintptr, n+1)
	for i, p := range params {
		names[i], nameLens[i] = text(p.Name), uintptr(len(p.Name))
		values[i], valueLens[i] = text(p.Value), uintptr(len(p.Value))
	}
	pin.Pin(&names[0])
	pin.Pin(&values[0])
	pin.Pin(&nameLens[0])
	pin.Pin(&valueLens[0])
	return f(*(*unsafe.Pointer)(conn), text(sql), uintptr(len(sql)), text(format), uintptr(len(format)),
		unsafe.Pointer(&names[0]), unsafe.Pointer(&nameLens[0]), unsafe.Pointer(&values[0]), unsafe.Pointer(&valueLens[0]), uintptr(n))
}

// check returns the error that a result carries, if any.
func (lib *library) check(result unsafe.Pointer) error {
	if result == nil {
		return &Exception{Code: codeUnknown, Message: "the engine returned no result"}
	}
	if s := lib.errorText(result); s != "" {
		return newException(s)
	}
	return nil
}

// bytes is the result's output. The memory is the engine's and ends with destroy.
func (lib *library) bytes(result unsafe.Pointer) []byte {
	n := lib.length(result)
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(lib.buffer(result)), n)
}

// ClickHouse's error codes that the bridge itself raises (src/Common/ErrorCodes.cpp).
const (
	codeNotImplemented = 48
	codeSyntax         = 62
	codeUnknownSetting = 115
	codeUnknownFormat  = 73
	codeCancelled      = 394
	codeAuth           = 516
	codeUnknown        = 1002
)

// Exception is an error of ClickHouse. Message begins with "Code: N. DB::Exception:".
type Exception struct {
	Code    int
	Message string
}

func (e *Exception) Error() string { return e.Message }

var exceptionCode = regexp.MustCompile(`Code: (\d+)`)

func newException(text string) *Exception {
	e := &Exception{Code: codeUnknown, Message: text}
	if m := exceptionCode.FindStringSubmatch(text); m != nil {
		e.Code, _ = strconv.Atoi(m[1])
	}
	return e
}

func exceptionf(code int, format string, a ...any) *Exception {
	return &Exception{Code: code, Message: fmt.Sprintf("Code: %d. DB::Exception: ", code) + fmt.Sprintf(format, a...)}
}
