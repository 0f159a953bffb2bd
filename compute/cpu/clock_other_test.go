//go:build !linux

package cpu

import "time"

var started = time.Now()

// clock is the time of day.
func clock() time.Duration { return time.Since(started) }
