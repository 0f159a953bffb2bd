-- +goose NO TRANSACTION
--
-- Views for the questions that come after the curves. Each one's comment says
-- how to ask it; what narrows a question (run_id, iteration) is pushed into every
-- part of a view, so that a run of a million samples is answered in under a
-- second on two cores (pkg/store, BenchmarkViews).

-- +goose Up
ALTER TABLE samples ADD COLUMN IF NOT EXISTS text_hash UInt64 MATERIALIZED cityHash64(text)
    COMMENT 'circumstance: hash of its text; made from text on insert' CODEC(NONE);

ALTER TABLE samples ADD COLUMN IF NOT EXISTS shingles UInt64 MATERIALIZED wordShingleMinHashCaseInsensitiveUTF8(text, 3, 6).1
    COMMENT 'circumstance: MinHash of the six least of its text''s runs of three words: equal where two texts are nearly the same; made from text on insert';

CREATE OR REPLACE VIEW score_progress AS
SELECT run_id, task, metric, split, phase, iteration, value, stderr, value - 1.96 * stderr AS low, value + 1.96 * stderr AS high, n,
       value - first_value(value) OVER w AS gain,
       sqrt(stderr * stderr + pow(first_value(stderr) OVER w, 2)) AS gain_stderr,
       weights_sha256
FROM scores FINAL
WINDOW w AS (PARTITION BY run_id, task, metric, split ORDER BY iteration, indexOf(['base', 'sft', 'spin', 'control'], phase::String) ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
COMMENT 'Scores from checkpoint to checkpoint with 95 % intervals (low, high); gain is against the first one, and gain_stderr takes the two for independent, which overstates it where both answered the same questions.';

CREATE OR REPLACE VIEW generators AS
SELECT run_id, iteration, generator, any(fingerprint) AS fingerprint, uniqExact(prompt_id) AS games, count() AS samples, sum(n_tokens) AS tokens,
       (max(toUnixTimestamp64Micro(created_at)) - min(toUnixTimestamp64Micro(created_at) - latency_ms * 1000)) / 1e6 AS seconds,
       sum(n_tokens) / nullIf(seconds, 0) AS tokens_per_s,
       quantileExact(0.5)(latency_ms) AS latency_ms_p50, quantileExact(0.95)(latency_ms) AS latency_ms_p95,
       countIf(attempt > 1) AS retried, min(created_at) AS first_at, max(created_at) AS last_at
FROM samples FINAL GROUP BY run_id, iteration, generator
COMMENT 'What each generator did in an iteration, from taking its first game to publishing its last. Which was slowest in iteration 1: SELECT * FROM generators WHERE run_id = ''…'' AND iteration = 1 ORDER BY tokens_per_s LIMIT 1';

CREATE OR REPLACE VIEW prompt_margins AS
SELECT m.run_id AS run_id, m.iteration AS iteration, m.prompt_id AS prompt_id, m.epoch AS epoch, m.margin AS margin, m.worst AS worst, m.loss AS loss, m.pairs AS pairs, m.lost AS lost,
       p.prompt AS prompt, p.real AS real
FROM
(
    SELECT run_id, iteration, prompt_id, epoch, avg(pairs.margin) AS margin, min(pairs.margin) AS worst, avg(pairs.loss) AS loss, count() AS pairs, countIf(pairs.margin <= 0) AS lost
    FROM pairs FINAL GROUP BY run_id, iteration, prompt_id, epoch
    ORDER BY epoch DESC LIMIT 1 BY run_id, iteration, prompt_id
) AS m
INNER JOIN (SELECT run_id, prompt_id, prompt, real FROM prompts FINAL) AS p ON p.run_id = m.run_id AND p.prompt_id = m.prompt_id
COMMENT 'How well the policy told each prompt''s human answer from the generated ones in the last epoch of an iteration; lost: pairs whose generated answer won or tied. Which prompts the model still loses: SELECT prompt_id, prompt, margin FROM prompt_margins WHERE run_id = ''…'' AND iteration = 1 AND lost > 0 ORDER BY margin';

CREATE OR REPLACE VIEW worst_pairs AS
WITH w AS
(
    SELECT run_id, iteration, epoch, place, -pair.1 AS loss, pair.2 AS prompt_id, pair.3 AS sample_iteration, pair.4 AS draw, pair.5 AS step, pair.6 AS margin,
           pair.7 AS logp_real, pair.8 AS logp_generated, pair.9 AS opponent_logp_real, pair.10 AS opponent_logp_generated
    FROM
    (
        SELECT run_id, iteration, epoch, groupArraySorted(100)(tuple(-loss, prompt_id, sample_iteration, draw, step, margin, logp_real, logp_generated, opponent_logp_real, opponent_logp_generated)) AS worst
        FROM pairs FINAL GROUP BY run_id, iteration, epoch
    )
    ARRAY JOIN worst AS pair, arrayEnumerate(worst) AS place
)
SELECT w.run_id AS run_id, w.iteration AS iteration, w.epoch AS epoch, w.place AS place, w.loss AS loss, w.margin AS margin, w.step AS step,
       w.prompt_id AS prompt_id, w.sample_iteration AS sample_iteration, w.draw AS draw, p.prompt AS prompt, p.real AS real, s.text AS generated,
       w.logp_real AS logp_real, w.logp_generated AS logp_generated, w.opponent_logp_real AS opponent_logp_real, w.opponent_logp_generated AS opponent_logp_generated
FROM w
INNER JOIN (SELECT run_id, prompt_id, prompt, real FROM prompts FINAL WHERE (run_id, prompt_id) IN (SELECT run_id, prompt_id FROM w)) AS p ON p.run_id = w.run_id AND p.prompt_id = w.prompt_id
LEFT JOIN
(
    SELECT run_id, iteration, prompt_id, draw, text FROM samples FINAL
    WHERE (run_id, iteration, prompt_id, draw) IN (SELECT run_id, sample_iteration, prompt_id, draw FROM w)
) AS s ON s.run_id = w.run_id AND s.iteration = w.sample_iteration AND s.prompt_id = w.prompt_id AND s.draw = w.draw
COMMENT 'The hundred pairs of each epoch with the highest loss, place 1 the worst, with their texts.';

CREATE OR REPLACE VIEW checkpoint_lineage AS
SELECT u.run_id AS run_id, i.weights_sha256 AS weights_sha256, u.iteration AS iteration, u.epoch AS epoch, u.step AS step, u.prompt_id AS prompt_id,
       u.sample_iteration AS sample_iteration, u.draw AS draw, u.run_id || '/' || toString(u.sample_iteration) || '/' || u.prompt_id || '/' || toString(u.draw) AS sample_id,
       o.opponent_sha256 AS sampled_by
FROM (SELECT run_id, iteration, epoch, step, prompt_id, sample_iteration, draw FROM pairs FINAL) AS u
INNER JOIN (SELECT run_id, iteration, weights_sha256 FROM iterations FINAL) AS i ON i.run_id = u.run_id AND i.iteration = u.iteration
INNER JOIN (SELECT run_id, iteration, opponent_sha256 FROM iterations FINAL) AS o ON o.run_id = u.run_id AND o.iteration = u.sample_iteration
COMMENT 'What a checkpoint of self-play learned from: each sample, the weights that sampled it (sampled_by), and the epoch and step that used it. Its base is in checkpoints; follow base_sha256 for the whole line.';

CREATE OR REPLACE VIEW duplicates AS
SELECT run_id, any(text) AS answer, count() AS copies, uniqExact(prompt_id) AS prompts, arraySort(groupUniqArray(iteration)) AS iterations,
       groupArray(10)(tuple(iteration, prompt_id, draw)) AS examples
FROM samples FINAL
WHERE (run_id, text_hash) IN (SELECT run_id, text_hash FROM samples FINAL GROUP BY run_id, text_hash HAVING count() > 1)
GROUP BY run_id, text_hash
COMMENT 'Answers that were sampled word for word more than once in a run, with up to ten places (iteration, prompt_id, draw).';

CREATE OR REPLACE VIEW near_duplicates AS
SELECT run_id, shingles, any(text) AS answer, count() AS samples, uniqExact(text_hash) AS texts, uniqExact(prompt_id) AS prompts,
       arraySort(groupUniqArray(iteration)) AS iterations, groupArray(10)(tuple(iteration, prompt_id, draw)) AS examples
FROM samples FINAL
WHERE n_tokens >= 8 AND (run_id, shingles) IN (SELECT run_id, shingles FROM samples FINAL WHERE n_tokens >= 8 GROUP BY run_id, shingles HAVING min(text_hash) != max(text_hash))
GROUP BY run_id, shingles
COMMENT 'Answers of eight tokens or more that are nearly the same in different words: texts of one MinHash over runs of three words. Word-for-word copies alone are in duplicates.';

-- +goose Down
DROP VIEW IF EXISTS near_duplicates;
DROP VIEW IF EXISTS duplicates;
DROP VIEW IF EXISTS checkpoint_lineage;
DROP VIEW IF EXISTS worst_pairs;
DROP VIEW IF EXISTS prompt_margins;
DROP VIEW IF EXISTS generators;
ALTER TABLE samples DROP COLUMN IF EXISTS shingles;
ALTER TABLE samples DROP COLUMN IF EXISTS text_hash;
