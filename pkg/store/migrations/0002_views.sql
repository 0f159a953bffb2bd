-- +goose NO TRANSACTION
-- +goose Up

CREATE OR REPLACE VIEW trl_metrics AS
SELECT run_id, phase, iteration, step, epoch, loss,
       reward_real             AS `rewards/chosen`,
       reward_generated        AS `rewards/rejected`,
       accuracy                AS `rewards/accuracies`,
       margin                  AS `rewards/margins`,
       logp_real               AS `logps/chosen`,
       logp_generated          AS `logps/rejected`,
       opponent_logp_real      AS `ref_logps/chosen`,
       opponent_logp_generated AS `ref_logps/rejected`,
       learning_rate, grad_norm, entropy, nll_real AS nll_loss,
       sum(tokens) OVER (PARTITION BY run_id, phase, iteration ORDER BY step ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS num_tokens
FROM steps FINAL
COMMENT 'Steps under the names of TRL''s DPOTrainer: chosen is the human answer, rejected the generated one.';

CREATE OR REPLACE VIEW spin_metrics AS
SELECT run_id, iteration, step, epoch, loss,
       reward_real      AS `rewards/real`,
       reward_generated AS `rewards/generated`,
       accuracy         AS `rewards/accuracies`,
       margin           AS `rewards/margins`,
       logp_real        AS `logps/real`,
       logp_generated   AS `logps/generated`,
       learning_rate
FROM steps FINAL WHERE phase = 'spin'
COMMENT 'Steps of self-play under the names of the reference implementation (uclaml/SPIN).';

CREATE OR REPLACE VIEW iteration_summary AS
SELECT i.run_id AS run_id, i.iteration AS iteration, i.state AS state,
       s.samples AS samples, p.pairs AS pairs, t.steps AS steps,
       t.loss_first AS loss_first, t.loss_last AS loss_last, t.margin AS margin, t.accuracy AS accuracy,
       h.accuracy AS heldout_accuracy, h.accuracy_stderr AS heldout_accuracy_stderr, h.nll AS heldout_nll,
       s.entropy AS entropy, t.length_real AS length_real, s.length_generated AS length_generated, s.stopped AS stopped,
       i.opponent_sha256 AS opponent_sha256, i.weights_sha256 AS weights_sha256,
       s.tokens_per_s AS sample_tokens_per_s, t.tokens_per_s AS train_tokens_per_s,
       dateDiff('microsecond', i.started_at, i.finished_at) / 1e6 AS seconds
FROM (SELECT * FROM iterations FINAL) AS i
LEFT JOIN
(
    SELECT run_id, iteration, toNullable(count()) AS samples, toNullable(avg(entropy)) AS entropy, toNullable(avg(n_tokens)) AS length_generated,
           toNullable(countIf(finish_reason = 'stop') / count()) AS stopped,
           toNullable(sum(n_tokens)) / nullIf((max(toUnixTimestamp64Micro(created_at)) - min(toUnixTimestamp64Micro(created_at) - latency_ms * 1000)) / 1e6, 0) AS tokens_per_s
    FROM samples FINAL GROUP BY run_id, iteration
) AS s ON s.run_id = i.run_id AND s.iteration = i.iteration
LEFT JOIN (SELECT run_id, iteration, toNullable(count()) AS pairs FROM pairs FINAL WHERE epoch = 1 GROUP BY run_id, iteration) AS p ON p.run_id = i.run_id AND p.iteration = i.iteration
LEFT JOIN
(
    SELECT run_id, iteration, toNullable(count()) AS steps, toNullable(argMin(loss, step)) AS loss_first,
           toNullable(avgIf(loss, step > 0.75 * last)) AS loss_last, toNullable(avgIf(margin, step > 0.75 * last)) AS margin,
           toNullable(avgIf(accuracy, step > 0.75 * last)) AS accuracy, toNullable(avg(length_real)) AS length_real,
           toNullable(sum(tokens)) / nullIf(sum(seconds), 0) AS tokens_per_s
    FROM (SELECT *, max(step) OVER (PARTITION BY run_id, iteration) AS last FROM steps FINAL WHERE phase = 'spin')
    GROUP BY run_id, iteration
) AS t ON t.run_id = i.run_id AND t.iteration = i.iteration
LEFT JOIN
(
    SELECT run_id, toUInt32(scores.iteration - 1) AS trained, anyIf(toNullable(value), metric = 'accuracy') AS accuracy,
           anyIf(toNullable(stderr), metric = 'accuracy') AS accuracy_stderr, anyIf(toNullable(value), metric = 'nll') AS nll
    FROM scores FINAL WHERE task = 'heldout' AND phase = 'spin' AND scores.iteration > 0 GROUP BY run_id, scores.iteration
) AS h ON h.run_id = i.run_id AND h.trained = i.iteration
COMMENT 'A row an iteration. loss_last, margin and accuracy are means of the last quarter of its steps; heldout_* are scores of theta_(t+1), which it made; NULL: not there yet.';

CREATE OR REPLACE VIEW margin_percentiles AS
SELECT run_id, iteration, epoch, count() AS pairs, avg(margin) AS mean,
       quantileExact(0.05)(margin) AS p05, quantileExact(0.25)(margin) AS p25, quantileExact(0.5)(margin) AS p50,
       quantileExact(0.75)(margin) AS p75, quantileExact(0.95)(margin) AS p95,
       countIf(margin > 0) / count() AS accuracy
FROM pairs FINAL GROUP BY run_id, iteration, epoch
COMMENT 'How margins spread over the pairs of an epoch.';

CREATE OR REPLACE VIEW generator_throughput AS
SELECT run_id, iteration, generator, toStartOfMinute(toDateTime(created_at, 'UTC')) AS minute,
       count() AS samples, sum(n_tokens) AS tokens, sum(n_tokens) / 60 AS tokens_per_s,
       countIf(attempt > 1) AS retried, quantileExact(0.5)(latency_ms) AS latency_ms_p50, quantileExact(0.95)(latency_ms) AS latency_ms_p95
FROM samples FINAL GROUP BY run_id, iteration, generator, minute
COMMENT 'What each generator sampled in each minute.';

CREATE OR REPLACE VIEW score_progress AS
SELECT run_id, task, metric, split, phase, iteration, value, stderr, n,
       value - first_value(value) OVER w AS gain,
       weights_sha256
FROM scores FINAL
WINDOW w AS (PARTITION BY run_id, task, metric, split ORDER BY iteration, indexOf(['base', 'sft', 'spin', 'control'], phase::String) ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
COMMENT 'Scores from checkpoint to checkpoint; gain is against the first one.';

CREATE OR REPLACE VIEW answers AS
SELECT p.run_id AS run_id, p.prompt_id AS prompt_id, p.position AS position, p.split AS split, s.draw AS draw, p.prompt AS prompt, p.real AS real,
       s.iterations AS iterations, s.texts AS texts, s.logps AS logps
FROM (SELECT * FROM prompts FINAL) AS p
INNER JOIN
(
    SELECT run_id, prompt_id, draw, groupArray(iteration) AS iterations, groupArray(text) AS texts, groupArray(logp) AS logps
    FROM (SELECT * FROM samples FINAL ORDER BY run_id, prompt_id, draw, iteration)
    GROUP BY run_id, prompt_id, draw
) AS s USING (run_id, prompt_id)
COMMENT 'A prompt with its human answer and what each iteration answered, side by side: texts[k] is the answer of iterations[k].';

CREATE OR REPLACE VIEW lineage AS
SELECT s.run_id AS run_id, s.sample_id AS sample_id, s.iteration AS iteration, s.prompt_id AS prompt_id, s.draw AS draw, s.split AS split,
       s.weights_sha256 AS weights_sha256, s.seed AS seed, s.fingerprint AS fingerprint, s.generator AS generator,
       p.prompt AS prompt, p.real AS real, s.text AS text, u.used AS used
FROM (SELECT * FROM samples FINAL) AS s
INNER JOIN (SELECT * FROM prompts FINAL) AS p USING (run_id, prompt_id)
LEFT JOIN
(
    SELECT run_id, sample_iteration, prompt_id, draw, arraySort(groupArray((iteration, epoch, step))) AS used
    FROM pairs FINAL GROUP BY run_id, sample_iteration, prompt_id, draw
) AS u ON u.run_id = s.run_id AND u.sample_iteration = s.iteration AND u.prompt_id = s.prompt_id AND u.draw = s.draw
COMMENT 'Where a sample came from and which (iteration, epoch, step) trained on it.';

-- +goose Down
DROP VIEW IF EXISTS lineage;
DROP VIEW IF EXISTS answers;
DROP VIEW IF EXISTS score_progress;
DROP VIEW IF EXISTS generator_throughput;
DROP VIEW IF EXISTS margin_percentiles;
DROP VIEW IF EXISTS iteration_summary;
DROP VIEW IF EXISTS spin_metrics;
DROP VIEW IF EXISTS trl_metrics;
