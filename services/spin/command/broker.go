package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/services/process"
)

// broker is the flags of a command that speaks to a run's broker: one of a fleet, that of a `spin
// run` which goes on in another process, or the folder of one that does not.
type broker struct {
	process.Broker
	dir string
	set *pflag.FlagSet
}

func (b *broker) flags(f *pflag.FlagSet) {
	b.set = f
	if f.Lookup("dir") == nil {
		f.StringVar(&b.dir, "dir", "./spin-data", "folder of a `spin run`")
	}
	b.Broker.Flags(f)
	f.Lookup("nats-url").Usage = "broker of a fleet instead, several separated by commas"
	f.Lookup("nats-url").DefValue = ""
}

// answer is how long a broker may take to answer a person.
const answer = 10 * time.Second

// connect reaches the broker that the flags name. Without running, a folder that no process has
// open is opened here.
func (b *broker) connect(ctx context.Context, running bool) (conn *bus.Conn, stop func() error, err error) {
	limited, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	log := zerolog.Nop()
	if b.set.Changed("nats-url") {
		if conn, _, err = b.Broker.Connect(limited, "spin", nil, log); err != nil {
			return nil, nil, badInput(err)
		}
		return conn, closeConn(conn), nil
	}
	dir := filepath.Join(b.set.Lookup("dir").Value.String(), "broker")
	if _, err := os.Stat(dir); err != nil {
		return nil, nil, badInput(fmt.Errorf("%s holds no run: give --dir, the folder of one, or --nats-url", filepath.Dir(dir)))
	}
	cfg, err := embedded.Find(limited, dir, "spin/command")
	switch {
	case err == nil:
		if conn, err = bus.Connect(limited, cfg, log); err != nil {
			return nil, nil, err
		}
		return conn, closeConn(conn), nil
	case !errors.Is(err, os.ErrNotExist):
		return nil, nil, badInput(err)
	case running:
		return nil, nil, badInput(fmt.Errorf("no run goes on in %s: `spin run` starts or resumes one, `spin report` shows what is there", filepath.Dir(dir)))
	}
	server, err := embedded.Start(ctx, embedded.Config{Dir: dir, MaxStore: maxStore}, log)
	if err != nil {
		return nil, nil, badInput(err)
	}
	if conn, err = bus.Connect(limited, server.Config("spin/command"), log); err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	return conn, func() error { conn.Close(); return server.Close() }, nil
}

func closeConn(conn *bus.Conn) func() error {
	return func() error { conn.Close(); return nil }
}

// findRun returns the run of the control bucket that pick finds, and its revision.
func findRun(ctx context.Context, conn *bus.Conn, id string) (run.Run, uint64, error) {
	entries, err := conn.Control().List(ctx, run.KeyPattern)
	if err != nil {
		return run.Run{}, 0, err
	}
	slices.SortFunc(entries, func(a, b bus.Entry) int { return cmp.Compare(b.Key, a.Key) }) // ids sort by time
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.Key[len(run.Key("")):]
	}
	i, err := pick(ids, id)
	if err != nil {
		return run.Run{}, 0, badInput(err)
	}
	return bus.State[run.Run]{Bucket: conn.Control()}.Load(ctx, run.Key(ids[i]))
}
