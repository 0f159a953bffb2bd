package command

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/seed-8780d58e/spin/pkg/event"
)

// screen is standard error while bars may be on it: what is written passes above them.
type screen struct {
	out  io.Writer
	live bool // a person's terminal, and not asked for JSON

	mu   sync.Mutex
	bars *mpb.Progress // nil: none at the moment
}

func newScreen(s Streams, json bool) *screen {
	return &screen{out: s.Err, live: isTerminal(s.Err) && !json}
}

// Write passes whole lines on.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bars != nil {
		if n, err := s.bars.Write(b); err == nil {
			return n, nil
		}
	}
	return s.out.Write(b)
}

func (s *screen) use(bars *mpb.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bars = bars
}

// bars is a display on a terminal: a bar for each phase that goes on; what is done moves above.
type bars struct {
	screen *screen
	all    *mpb.Progress
	shown  map[string]*bar
}

// bar is one phase's, with the newest figures for its decorators, which run beside us.
type bar struct {
	*mpb.Bar
	now atomic.Pointer[phase]
}

const refresh = 200 * time.Millisecond

func newBars(s *screen) *bars {
	b := &bars{screen: s, shown: map[string]*bar{}}
	b.all = mpb.New(mpb.WithOutput(s.out), mpb.WithRefreshRate(refresh), mpb.PopCompletedMode(), mpb.WithAutoRefresh())
	s.use(b.all)
	return b
}

func (b *bars) phase(p phase) {
	at := b.shown[p.name]
	if at == nil {
		at = &bar{}
		at.now.Store(&p)
		at.Bar = b.add(at, p)
		b.shown[p.name] = at
	}
	at.now.Store(&p)
	at.SetTotal(int64(p.total), false)
	at.SetCurrent(int64(p.done))
}

func (b *bars) add(at *bar, p phase) *mpb.Bar {
	text := func(f func(p *phase) string) decor.Decorator {
		return decor.Any(func(decor.Statistics) string { return f(at.now.Load()) }, decor.WCSyncSpaceR)
	}
	return b.all.New(int64(p.total), mpb.BarStyle().Lbound("").Rbound("").Filler("━").Tip("━").Padding("─").Refiller("━"),
		mpb.PrependDecorators(
			decor.Name(p.name, decor.WCSyncSpaceR),
			text(func(p *phase) string { return fmt.Sprintf("%d/%d", p.done, p.total) }),
		),
		mpb.AppendDecorators(
			text(func(p *phase) string {
				if r := p.rate(); r > 0 {
					return fmt.Sprintf("%.0f tokens/s", r)
				}
				return ""
			}),
			text(func(p *phase) string {
				if left := p.left(time.Now()); left > 0 {
					return left.String() + " left"
				}
				return ""
			}),
			text(func(p *phase) string {
				switch {
				case p.step == nil:
					return ""
				case p.step.GetPairs() > 0:
					return fmt.Sprintf("loss %.3f accuracy %.2f", p.step.GetLoss(), p.step.GetAccuracy())
				}
				return fmt.Sprintf("loss %.3f", p.step.GetLoss())
			}),
		),
	)
}

func (b *bars) score(m *event.Score) { fmt.Fprintln(b.screen, scoreLine(m)) }

func (b *bars) alarm(m *event.Event) {
	fmt.Fprintf(b.screen, "%s: %s\n", m.GetLevel().Token(), m.GetMessage())
}

func (b *bars) told(m *event.Event) { fmt.Fprintln(b.screen, m.GetMessage()) }

// end leaves the bars as they are: what did not get to its end keeps its last line.
func (b *bars) end() {
	b.screen.use(nil)
	for _, at := range b.shown {
		at.Abort(false)
	}
	b.all.Wait()
}
