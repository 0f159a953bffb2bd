package cpu

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// Weights of a small model are a megabyte or less each: too small for huge pages of their own, and
// a step that reads all of them through small pages loses a fifth of the memory's bandwidth, since
// the hardware's prefetching ends at a page's border. So they are cut from slabs.
const (
	slabBytes = 16 << 20
	slabLeast = 64 << 10  // smaller ones are the collector's
	slabMost  = slabBytes // larger ones have pages of their own
)

// slab is a mapping that several blocks lie in. It is given back with the last of them.
type slab struct {
	mapped []byte
	free   []byte // behind the last block
	blocks int
}

// slabs are a device's.
type slabs struct {
	mutex sync.Mutex
	last  *slab // blocks are taken from here
}

// take returns a block of zeros, as newMemory does.
func (s *slabs) take(bytes int64) *memory {
	if bytes < slabLeast || bytes > slabMost {
		return newMemory(bytes)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	n := int(roundUp(bytes, lineBytes))
	if s.last == nil || len(s.last.free) < n {
		mapped, err := mapPages(slabBytes + hugePage)
		if err != nil {
			panic(fmt.Errorf("compute/cpu: %d bytes: %w (%w)", bytes, compute.ErrMemory, err))
		}
		if mapped == nil {
			return newMemory(bytes)
		}
		s.last = &slab{mapped: mapped, free: unsafe.Slice((*byte)(align(mapped, hugePage)), slabBytes)}
	}
	m := &memory{bytes: bytes, base: unsafe.Pointer(&s.last.free[0]), slab: s.last, slabs: s}
	s.last.free = s.last.free[n:]
	s.last.blocks++
	return m
}

// give takes a block's share of its slab back.
func (s *slabs) give(l *slab) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if l.blocks--; l.blocks > 0 {
		return
	}
	if s.last == l {
		s.last = nil
	}
	unmapPages(l.mapped)
}
