package unit

import (
	"bytes"
	"os"
	"strconv"
)

// PeakBytes is the resident high-water mark of this process (VmHWM of proc(5)); 0 where it is not
// to be had.
func PeakBytes() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			kib, _ := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// ResetPeak sets the high-water mark to what is resident now (5 in clear_refs, proc(5)).
func ResetPeak() error { return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }
