package store

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// RemoveGame deletes the rows of one game as it was at one revision: a game that its run refused. The rows of the right one, which has a later
// revision, stay.
func (s *Store) RemoveGame(ctx context.Context, run string, iteration uint32, prompt string, revision uint64) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"lightweight_deletes_sync": 2}))
	for table, also := range map[string]string{"games": " AND iteration = {iteration:UInt32}", "samples": " AND iteration = {iteration:UInt32}", "prompts": ""} {
		err := s.db.Exec(ctx, "DELETE FROM "+table+" WHERE run_id = {run:String} AND prompt_id = {prompt:String} AND revision = {revision:UInt64}"+also,
			clickhouse.Named("run", run), clickhouse.Named("prompt", prompt), clickhouse.Named("revision", strconv.FormatUint(revision, 10)),
			clickhouse.Named("iteration", strconv.FormatUint(uint64(iteration), 10)))
		if err != nil {
			return fmt.Errorf("remove game %s of run %s from %s: %w", prompt, run, table, err)
		}
	}
	return nil
}
