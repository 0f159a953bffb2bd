package embedded

import (
	"encoding/binary"
	"strings"
)

// handshake is clickhouse-go's first query over HTTP (conn_http.go, queryHello).
// It asks for the protocol revision of all later blocks. The engine writes
// Native as of revision 0, so that is the answer, itself written in the
// client's revision.
const handshake = "SELECT displayName(), version(), revision(), timezone()"

const displayName = "spin"

// revisionWithSerialization is DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION: from
// it on, a Native column says after its type how it is serialized.
const revisionWithSerialization = 54454

// handshakeBlock is the one row (display name, version, revision 0, time zone) as a
// Native block of the client's protocol revision.
func handshakeBlock(version, timezone string, protocol uint64) []byte {
	// Block info: field 1 is_overflows = 0, field 2 bucket_num = -1, end.
	b := []byte{1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0}
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = append(b, 4, 1) // columns, rows
	for i, c := range strings.Split(strings.TrimPrefix(handshake, "SELECT "), ", ") {
		text(c)
		text([]string{"String", "String", "UInt32", "String"}[i])
		if protocol >= revisionWithSerialization {
			b = append(b, 0)
		}
		switch i {
		case 0:
			text(displayName)
		case 1:
			text(version)
		case 2:
			b = binary.LittleEndian.AppendUint32(b, 0)
		case 3:
			text(timezone)
		}
	}
	return b
}
