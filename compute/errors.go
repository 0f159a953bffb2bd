package compute

import "errors"

// ErrMemory is wrapped by a device's panic or error where it has not the memory asked for.
var ErrMemory = errors.New("out of device memory")
