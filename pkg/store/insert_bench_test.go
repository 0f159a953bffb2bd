package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// Samples of 1 KB of text and 256 tokens, in the recorder's batches.
func BenchmarkInsertSamples(b *testing.B) {
	for _, n := range []int{100, 2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := storetest.Open(b)
			batch := &store.Batch{}
			one := play("r1", "gen-a", epoch).Samples[0]
			for len(one.TokenIDs) < 256 {
				one.TokenIDs = append(one.TokenIDs, uint32(len(one.TokenIDs)*7919%49152))
				one.TokenLogps = append(one.TokenLogps, -float32(len(one.TokenIDs)%97)/97)
			}
			one.SamplingLogps = one.TokenLogps
			one.Text = strings.Repeat("lorem ipsum dolor sit amet ", 38)
			for i := range n {
				one.PromptID, one.SampleID = fmt.Sprint("p", i), fmt.Sprint("r1/0/p", i, "/0")
				batch.Samples = append(batch.Samples, one)
			}
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				if err := s.Insert(b.Context(), fmt.Sprint("bench/", i), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkRowsDigest(b *testing.B) {
	s := storetest.Open(b)
	batch := &store.Batch{}
	one := play("r1", "gen-a", epoch).Samples[0]
	for i := range 50_000 {
		one.PromptID = fmt.Sprint("p", i)
		batch.Samples = append(batch.Samples, one)
	}
	if err := s.Insert(b.Context(), "bench", batch); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for b.Loop() {
		if _, err := s.RowsDigest(b.Context(), "r1"); err != nil {
			b.Fatal(err)
		}
	}
}
