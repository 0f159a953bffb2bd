package embedded

import (
	"net/http"
	"net/url"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// request is what the URL and the headers say, the statement's text apart.
type request struct {
	query          string
	format         string // of output without a FORMAT clause
	database       string
	user, password string
	protocol       uint64 // client_protocol_version: the revision of Native blocks
	wait           bool   // wait_end_of_query: answer only when all went well
	settings       []Param
	params         []Param
}

// settingName is what may stand for a setting in a URL. Names go into SQL as
// they are, so nothing else gets through; the engine knows which ones exist.
var settingName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]{0,127}$`)

// parseRequest reads ClickHouse's URL parameters: those of the protocol, param_x
// for {x:Type}, and anything else as a setting. Names are sorted, so that equal
// requests are equal statements.
func parseRequest(rawQuery string, h http.Header) (request, error) {
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return request{}, exceptionf(codeSyntax, "read the URL: %v", err)
	}
	q := request{format: h.Get("X-ClickHouse-Format"), database: h.Get("X-ClickHouse-Database")}
	for name, all := range values {
		value := all[len(all)-1]
		switch name {
		case "query":
			q.query = value
		case "default_format":
			q.format = value
		case "database":
			q.database = value
		case "user":
			q.user = value
		case "password":
			q.password = value
		case "client_protocol_version":
			if q.protocol, err = strconv.ParseUint(value, 10, 32); err != nil {
				return q, exceptionf(codeSyntax, "client_protocol_version %q is not a number", value)
			}
		case "wait_end_of_query":
			q.wait = truth(value)
		case "compress", "decompress":
			if truth(value) {
				return q, exceptionf(codeNotImplemented, "%s=1: the embedded engine takes no compressed blocks: use none, on loopback they cost more than they save. (NOT_IMPLEMENTED)", name)
			}
		case "session_id", "session_check":
			return q, exceptionf(codeNotImplemented, "%s: the embedded engine has no sessions: give settings in the URL or in the statement. (NOT_IMPLEMENTED)", name)
		case "query_id", "quota_key", "role", "session_timeout", "buffer_size", "enable_http_compression", "stacktrace", "default_max_rows":
			// Of a server's protocol, without meaning here.
		default:
			p := Param{name, value}
			if after, ok := strings.CutPrefix(name, "param_"); ok && settingName.MatchString(after) {
				p.Name = after
				q.params = append(q.params, p)
				continue
			}
			if !settingName.MatchString(name) {
				return q, exceptionf(codeUnknownSetting, "Unknown setting %q. (UNKNOWN_SETTING)", name)
			}
			q.settings = append(q.settings, p)
		}
	}
	if q.format == "" {
		q.format = "TabSeparated"
	}
	if !settingName.MatchString(q.format) {
		return q, exceptionf(codeUnknownFormat, "Unknown format %q. (UNKNOWN_FORMAT)", q.format)
	}
	sort.Slice(q.settings, func(i, j int) bool { return q.settings[i].Name < q.settings[j].Name })
	sort.Slice(q.params, func(i, j int) bool { return q.params[i].Name < q.params[j].Name })
	return q, nil
}

func truth(s string) bool { return s == "1" || strings.EqualFold(s, "true") }
