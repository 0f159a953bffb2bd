package embedded

import (
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

const (
	lookForRoom = time.Second
	roomToStart = 16 << 20 // free bytes that JetStream is started again with
)

// keepGoing starts JetStream again when the disk has room: nats-server writes a stream no more, or none at
// all, after the first write that finds none, and leaves its publishers without an answer. What was
// acknowledged is there; connections wait meanwhile, as in a restart.
func (s *Server) keepGoing(options *server.Options, log zerolog.Logger) {
	tick := time.NewTicker(lookForRoom)
	defer tick.Stop()
	told := false
	for {
		select {
		case <-tick.C:
		case <-s.closing:
			return
		}
		if s.server.JetStreamEnabled() && !s.stuck.Load() {
			continue
		}
		var disk unix.Statfs_t
		err := unix.Statfs(options.StoreDir, &disk)
		if free := int64(disk.Bavail) * int64(disk.Bsize); err != nil || free < roomToStart {
			if !told {
				log.Error().Err(err).Str("dir", options.StoreDir).Int64("free", free).Msg("the broker's disk is full: everything waits; make room there, and all goes on by itself")
				told = true
			}
			continue
		}
		s.stuck.Store(false)
		if err := s.server.ShutdownJetStream(); err != nil {
			log.Error().Err(err).Msg("stop the broker's streams")
		}
		err = s.server.EnableJetStream(&server.JetStreamConfig{
			StoreDir: options.StoreDir, SyncInterval: options.SyncInterval, SyncAlways: options.SyncAlways, Strict: !options.NoJetStreamStrict,
			MaxMemory: options.JetStreamMaxMemory, MaxStore: options.JetStreamMaxStore, CompressOK: true,
		})
		if err != nil {
			log.Error().Err(err).Msg("start the broker's streams again")
			continue
		}
		told = false
		log.Info().Msg("the broker's disk has room again: it goes on")
	}
}
