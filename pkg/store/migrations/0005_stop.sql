-- +goose NO TRANSACTION
--
-- Runs that end early, intervals of scores, and the best weights.

-- +goose Up
ALTER TABLE runs ADD COLUMN IF NOT EXISTS played UInt32
    COMMENT 'content: iterations of self-play that the run has: those of its spec, or fewer where its stop rule ended it';

ALTER TABLE runs ADD COLUMN IF NOT EXISTS stop_reason String
    COMMENT 'content: what its stop rule saw when it ended the run; empty: it did not' CODEC(ZSTD(3));

ALTER TABLE scores ADD COLUMN IF NOT EXISTS low Float64 DEFAULT value - 1.96 * stderr
    COMMENT 'content: lower end of the 95 % interval: measures of self-play by bootstrap over games, benchmarks by 1.96 standard errors; the value where no error is estimated' CODEC(ZSTD(1));

ALTER TABLE scores ADD COLUMN IF NOT EXISTS high Float64 DEFAULT value + 1.96 * stderr
    COMMENT 'content: its upper end' CODEC(ZSTD(1));

CREATE OR REPLACE VIEW score_progress AS
SELECT run_id, task, metric, split, phase, iteration, value, stderr, low, high, n,
       value - first_value(value) OVER w AS gain,
       sqrt(stderr * stderr + pow(first_value(stderr) OVER w, 2)) AS gain_stderr,
       weights_sha256
FROM scores FINAL
WINDOW w AS (PARTITION BY run_id, task, metric, split ORDER BY iteration, indexOf(['base', 'sft', 'spin', 'control'], phase::String) ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
COMMENT 'Scores from checkpoint to checkpoint with 95 % intervals (low, high); gain is against the first one, and gain_stderr takes the two for independent, which overstates it where both answered the same questions. For the human NLL, the metric nll_gain is the gain on the opponent, answer by answer.';

CREATE OR REPLACE VIEW best_checkpoint AS
SELECT c.run_id AS run_id, c.phase AS phase, c.iteration AS iteration, c.weights_sha256 AS weights_sha256,
       n.value AS nll, n.low AS nll_low, n.high AS nll_high, c.uri AS uri, c.files AS files, c.file_sha256s AS file_sha256s
FROM (SELECT * FROM checkpoints FINAL) AS c
INNER JOIN (SELECT run_id, phase, iteration, value, low, high FROM scores FINAL WHERE task = 'heldout' AND metric = 'nll') AS n
    ON n.run_id = c.run_id AND n.phase = c.phase AND n.iteration = c.iteration
WHERE c.phase IN ('sft', 'spin') OR (c.phase = 'base' AND c.run_id NOT IN (SELECT run_id FROM checkpoints WHERE phase = 'sft'))
ORDER BY nll, iteration LIMIT 1 BY run_id
COMMENT 'Of θ_0 and what each iteration of self-play made of it, the weights with the lowest held-out human NLL, of equals the earliest: what spin export with the flag best writes';

-- +goose Down
DROP VIEW IF EXISTS best_checkpoint;

CREATE OR REPLACE VIEW score_progress AS
SELECT run_id, task, metric, split, phase, iteration, value, stderr, value - 1.96 * stderr AS low, value + 1.96 * stderr AS high, n,
       value - first_value(value) OVER w AS gain,
       sqrt(stderr * stderr + pow(first_value(stderr) OVER w, 2)) AS gain_stderr,
       weights_sha256
FROM scores FINAL
WINDOW w AS (PARTITION BY run_id, task, metric, split ORDER BY iteration, indexOf(['base', 'sft', 'spin', 'control'], phase::String) ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
COMMENT 'Scores from checkpoint to checkpoint with 95 % intervals (low, high); gain is against the first one, and gain_stderr takes the two for independent, which overstates it where both answered the same questions.';

ALTER TABLE scores DROP COLUMN IF EXISTS high;
ALTER TABLE scores DROP COLUMN IF EXISTS low;
ALTER TABLE runs DROP COLUMN IF EXISTS stop_reason;
ALTER TABLE runs DROP COLUMN IF EXISTS played;
