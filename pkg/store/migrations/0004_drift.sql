-- +goose NO TRANSACTION
-- +goose Up

CREATE OR REPLACE VIEW engine_drift AS
SELECT run_id, iteration, fingerprint, count() AS samples, sum(n_tokens) AS tokens,
       sum(arraySum((scored, sampled) -> toFloat64(scored) - toFloat64(sampled), token_logps, sampling_logps)) / sum(n_tokens) AS mean,
       sum(arraySum((scored, sampled) -> abs(toFloat64(scored) - toFloat64(sampled)), token_logps, sampling_logps)) / sum(n_tokens) AS mean_abs,
       max(arrayMax((scored, sampled) -> abs(toFloat64(scored) - toFloat64(sampled)), token_logps, sampling_logps)) AS largest
FROM samples FINAL
WHERE length(sampling_logps) = length(token_logps) AND n_tokens > 0
GROUP BY run_id, iteration, fingerprint
COMMENT 'For each engine that played: how far its scoring is from its decoding on the same tokens, in nats a token. The trainer alarms above 0.1.';

-- +goose Down
DROP VIEW IF EXISTS engine_drift;
