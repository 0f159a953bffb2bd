-- +goose NO TRANSACTION
--
-- Every statement can run again: ClickHouse has no transactions for DDL, and a
-- migration that was cut short is run from its start.
--
-- Every column's comment begins with "content:" (the same run made twice has the
-- same value: part of rows_digest) or "circumstance:" (times, attempts, who did
-- it). pkg/store/SCHEMA.md and the digest are made from these comments.
--
-- Each table is a ReplacingMergeTree ordered by its rows' identity, the run
-- first: a row that is written again replaces itself, and exact readers say
-- FINAL. The deduplication window lets an INSERT be repeated under its token, and
-- fsync makes an acknowledged one outlive a power cut: the archive is here, not
-- on the broker. No partitions but for events: an insert is then one block, and
-- FINAL never crosses a border; a run is removed by DELETE.

-- +goose Up
CREATE TABLE IF NOT EXISTS runs
(
    run_id      LowCardinality(String)         COMMENT 'circumstance: UUIDv7 without dashes, new for each run',
    name        String                         COMMENT 'circumstance: name that a person gave',
    model       String                         COMMENT 'circumstance: where the base model came from',
    base_sha256 LowCardinality(String)         COMMENT 'content: weights_sha256 of the base model',
    seed        UInt64                         COMMENT 'content: seed of every random choice of the run',
    spec        String                         COMMENT 'content: what decides the result, canonical JSON: hyper-parameters, digests of data and weights; no paths, no threads' CODEC(ZSTD(3)),
    config      String                         COMMENT 'circumstance: the whole configuration, JSON' CODEC(ZSTD(3)),
    template_id LowCardinality(String)         COMMENT 'content: chat template that renders prompts and answers',
    fingerprint LowCardinality(String)         COMMENT 'content: engine of the trainer: backend, instruction set, dtype, kernel version',
    state       LowCardinality(String)         COMMENT 'circumstance: state of the run as last seen',
    error       String                         COMMENT 'circumstance: why it failed or is blocked' CODEC(ZSTD(3)),
    build       LowCardinality(String)         COMMENT 'circumstance: version of spin',
    created_at  DateTime64(6, 'UTC')           COMMENT 'circumstance: when it was submitted' CODEC(Delta, ZSTD(1)),
    finished_at Nullable(DateTime64(6, 'UTC')) COMMENT 'circumstance: when it ended',
    revision    UInt64                         COMMENT 'circumstance: revision of the control key mirrored here; the highest wins' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision) ORDER BY run_id
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'A run: one spec played from the base model to its last iteration. Written by the recorder from the control bucket.';

CREATE TABLE IF NOT EXISTS iterations
(
    run_id          LowCardinality(String)         COMMENT 'circumstance: the run',
    iteration       UInt32                         COMMENT 'content: t: theta_t plays the opponent, training makes theta_(t+1)',
    opponent_sha256 LowCardinality(String)         COMMENT 'content: weights_sha256 of theta_t',
    weights_sha256  LowCardinality(String)         COMMENT 'content: weights_sha256 of theta_(t+1); empty until it is trained',
    games_sha256    LowCardinality(String)         COMMENT 'content: digest of the sealed training set in key order; empty until it is sealed',
    games           UInt32                         COMMENT 'content: games of the iteration, held-out ones and holes included',
    holes           UInt32                         COMMENT 'content: games skipped on purpose',
    pairs           UInt32                         COMMENT 'content: pairs trained on in an epoch: prompts x draws x (1 + mixed) - holes',
    steps           UInt32                         COMMENT 'content: optimizer steps planned',
    state           LowCardinality(String)         COMMENT 'circumstance: planned, generating, training, publishing, evaluating, done, failed, paused, blocked',
    error           String                         COMMENT 'circumstance: why it failed or is blocked' CODEC(ZSTD(3)),
    attempt         UInt32                         COMMENT 'circumstance: trainer takeovers, from 1',
    started_at      DateTime64(6, 'UTC')           COMMENT 'circumstance: when its first chunk was published' CODEC(Delta, ZSTD(1)),
    finished_at     Nullable(DateTime64(6, 'UTC')) COMMENT 'circumstance: when theta_(t+1) was published',
    revision        UInt64                         COMMENT 'circumstance: revision of the control key mirrored here; the highest wins' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision) ORDER BY (run_id, iteration)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'An iteration of self-play. Written by the recorder from the control bucket.';

CREATE TABLE IF NOT EXISTS checkpoints
(
    run_id         LowCardinality(String) COMMENT 'circumstance: the run',
    iteration      UInt32                 COMMENT 'content: t of theta_t: the iteration that these weights play',
    phase          LowCardinality(String) COMMENT 'content: what made the weights: base, sft, spin, control',
    weights_sha256 LowCardinality(String) COMMENT 'content: digest over (name, shape, F32 bytes) of the masters in name order',
    base_sha256    LowCardinality(String) COMMENT 'content: weights_sha256 that training started from',
    dtype          LowCardinality(String) COMMENT 'content: type of the compute weights made from the masters',
    fingerprint    LowCardinality(String) COMMENT 'content: engine that trained',
    template_id    LowCardinality(String) COMMENT 'content: chat template of the run',
    adapter        Bool                   COMMENT 'content: true where the files hold a LoRA adapter to be merged into base_sha256',
    bytes          UInt64                 COMMENT 'circumstance: size of all files' CODEC(T64, ZSTD(1)),
    uri            String                 COMMENT 'circumstance: where the files lie',
    files          Array(String)          COMMENT 'circumstance: names of the files' CODEC(ZSTD(1)),
    file_sha256s   Array(String)          COMMENT 'circumstance: their digests, in the same order: keys in the blob store' CODEC(ZSTD(1)),
    instance       LowCardinality(String) COMMENT 'circumstance: trainer that wrote it',
    attempt        UInt32                 COMMENT 'circumstance: trainer takeovers, from 1',
    created_at     DateTime64(6, 'UTC')   COMMENT 'circumstance: when it was published' CODEC(Delta, ZSTD(1)),
    revision       UInt64                 COMMENT 'circumstance: sequence in its stream; the highest wins' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision) ORDER BY (run_id, iteration, phase)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'A checkpoint that was published. The weights lie in the blob store by digest.';

CREATE TABLE IF NOT EXISTS prompts
(
    run_id          LowCardinality(String) COMMENT 'circumstance: the run',
    prompt_id       String                 COMMENT 'content: id inside the run' CODEC(ZSTD(1)),
    position        UInt64                 COMMENT 'content: position in the data set, from 0' CODEC(Delta, ZSTD(1)),
    split           LowCardinality(String) COMMENT 'content: train, or heldout: played and scored, never trained on',
    prompt          String                 COMMENT 'content: last turn of the conversation: the question' CODEC(ZSTD(3)),
    messages        String                 COMMENT 'content: the whole conversation, JSON list of {role, content}' CODEC(ZSTD(3)),
    real            String                 COMMENT 'content: the human answer y' CODEC(ZSTD(3)),
    prompt_ids      Array(UInt32)          COMMENT 'content: tokens of the rendered conversation, up to where the answer starts' CODEC(ZSTD(1)),
    real_ids        Array(UInt32)          COMMENT 'content: tokens of the human answer, end of turn included' CODEC(ZSTD(1)),
    n_prompt_tokens UInt32                 COMMENT 'content: length of prompt_ids' CODEC(T64, ZSTD(1)),
    n_real_tokens   UInt32                 COMMENT 'content: length of real_ids' CODEC(T64, ZSTD(1)),
    template_id     LowCardinality(String) COMMENT 'content: chat template that rendered it',
    revision        UInt64                 COMMENT 'circumstance: sequence in its stream; the highest wins' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision) ORDER BY (run_id, prompt_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'A prompt with its human answer, once a run.';

CREATE TABLE IF NOT EXISTS games
(
    run_id           LowCardinality(String) COMMENT 'circumstance: the run',
    iteration        UInt32                 COMMENT 'content: t: the game was played by theta_t' CODEC(Delta, ZSTD(1)),
    prompt_id        String                 COMMENT 'content: the prompt' CODEC(ZSTD(1)),
    split            LowCardinality(String) COMMENT 'content: train or heldout',
    weights_sha256   LowCardinality(String) COMMENT 'content: weights that played and scored',
    template_id      LowCardinality(String) COMMENT 'content: chat template that rendered',
    fingerprint      LowCardinality(String) COMMENT 'content: engine that played: backend, instruction set, dtype, kernel version',
    temperature      Float32                COMMENT 'content: of sampling; 0 is greedy',
    top_p            Float32                COMMENT 'content: nucleus mass; 1 keeps all',
    top_k            UInt32                 COMMENT 'content: candidates kept; 0 keeps all',
    max_new_tokens   UInt32                 COMMENT 'content: tokens of a draw at most',
    draws            UInt32                 COMMENT 'content: draws of this iteration',
    kept             UInt32                 COMMENT 'content: draws of t-1 scored again',
    real_logp        Float64                COMMENT 'content: log p(y|x) under theta_t, summed over the tokens' CODEC(ZSTD(1)),
    real_token_logps Array(Float32)         COMMENT 'content: the same, a token each' CODEC(ZSTD(1)),
    real_entropy     Float32                COMMENT 'content: mean entropy of the next-token distributions along y, nats' CODEC(ZSTD(1)),
    hole             String                 COMMENT 'content: why the game was skipped on purpose; empty for a game that was played',
    generator        LowCardinality(String) COMMENT 'circumstance: instance that played',
    attempt          UInt32                 COMMENT 'circumstance: delivery of the task that led to it, from 1' CODEC(T64, ZSTD(1)),
    latency_ms       Float32                COMMENT 'circumstance: time from taking the game to publishing it' CODEC(ZSTD(1)),
    created_at       DateTime64(6, 'UTC')   COMMENT 'circumstance: when it was published' CODEC(Delta, ZSTD(1)),
    revision         UInt64                 COMMENT 'circumstance: sequence in its stream; the highest wins' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision) ORDER BY (run_id, iteration, prompt_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'A game: one prompt played and scored under theta_t, with the human answer''s log-probabilities, or the hole in its place.';

CREATE TABLE IF NOT EXISTS samples
(
    run_id         LowCardinality(String) COMMENT 'circumstance: the run',
    iteration      UInt32                 COMMENT 'content: iteration that sampled it' CODEC(Delta, ZSTD(1)),
    prompt_id      String                 COMMENT 'content: the prompt' CODEC(ZSTD(1)),
    draw           UInt32                 COMMENT 'content: which of the prompt''s draws, from 0' CODEC(T64, ZSTD(1)),
    sample_id      String                 COMMENT 'circumstance: run/iteration/prompt/draw' CODEC(ZSTD(1)),
    split          LowCardinality(String) COMMENT 'content: train or heldout',
    weights_sha256 LowCardinality(String) COMMENT 'content: weights that sampled and scored it',
    text           String                 COMMENT 'content: the answer without its end-of-turn token' CODEC(ZSTD(3)),
    token_ids      Array(UInt32)          COMMENT 'content: its tokens, the end-of-turn token included where it was produced' CODEC(ZSTD(1)),
    token_logps    Array(Float32)         COMMENT 'content: log p(token) under theta_t by the packed scoring pass' CODEC(ZSTD(1)),
    sampling_logps Array(Float32)         COMMENT 'content: log p(token) as decoding saw it: the drift between decode and scoring' CODEC(ZSTD(1)),
    logp           Float64                COMMENT 'content: sum of token_logps' CODEC(ZSTD(1)),
    n_tokens       UInt32                 COMMENT 'content: length of token_ids' CODEC(T64, ZSTD(1)),
    finish_reason  LowCardinality(String) COMMENT 'content: stop (the model ended its turn) or length (cut at max_new_tokens)',
    entropy        Float32                COMMENT 'content: mean entropy of the next-token distributions, nats' CODEC(ZSTD(1)),
    seed           UInt64                 COMMENT 'content: seed of its random stream' CODEC(ZSTD(1)),
    template_id    LowCardinality(String) COMMENT 'content: chat template that rendered',
    fingerprint    LowCardinality(String) COMMENT 'content: engine that sampled',
    generator      LowCardinality(String) COMMENT 'circumstance: instance that sampled',
    attempt        UInt32                 COMMENT 'circumstance: delivery of the task that led to it, from 1' CODEC(T64, ZSTD(1)),
    latency_ms     Float32                COMMENT 'circumstance: time from taking its game to publishing it' CODEC(ZSTD(1)),
    created_at     DateTime64(6, 'UTC')   COMMENT 'circumstance: when its game was published' CODEC(Delta, ZSTD(1)),
    revision       UInt64                 COMMENT 'circumstance: sequence in its stream; the highest wins' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision) ORDER BY (run_id, iteration, prompt_id, draw)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, index_granularity_bytes = 67108864
COMMENT 'A generated answer: rows = prompts x draws, in each iteration.';

CREATE TABLE IF NOT EXISTS pairs
(
    run_id                  LowCardinality(String) COMMENT 'circumstance: the run',
    iteration               UInt32                 COMMENT 'content: iteration trained in' CODEC(Delta, ZSTD(1)),
    epoch                   UInt32                 COMMENT 'content: epoch, from 1' CODEC(Delta, ZSTD(1)),
    step                    UInt32                 COMMENT 'content: step inside the iteration, from 1' CODEC(Delta, ZSTD(1)),
    prompt_id               String                 COMMENT 'content: the prompt' CODEC(ZSTD(1)),
    draw                    UInt32                 COMMENT 'content: draw of the generated answer' CODEC(T64, ZSTD(1)),
    sample_iteration        UInt32                 COMMENT 'content: iteration that sampled it: t, or t-1 where mixed' CODEC(T64, ZSTD(1)),
    logp_real               Float64                COMMENT 'content: log p_theta(y|x), summed, before the step''s update' CODEC(ZSTD(1)),
    logp_generated          Float64                COMMENT 'content: log p_theta(y''|x), summed' CODEC(ZSTD(1)),
    opponent_logp_real      Float64                COMMENT 'content: log p_theta_t(y|x), summed' CODEC(ZSTD(1)),
    opponent_logp_generated Float64                COMMENT 'content: log p_theta_t(y''|x), summed' CODEC(ZSTD(1)),
    loss                    Float64                COMMENT 'content: the pair''s loss' CODEC(ZSTD(1)),
    margin                  Float64                COMMENT 'content: reward of y - reward of y''; reward = beta x (logp - opponent_logp)' CODEC(ZSTD(1)),
    beta                    Float64                COMMENT 'content: the paper''s lambda' CODEC(Gorilla, ZSTD(1)),
    instance                LowCardinality(String) COMMENT 'circumstance: trainer',
    attempt                 UInt32                 COMMENT 'circumstance: trainer takeovers, from 1; a repeated step replaces its rows',
    created_at              DateTime64(6, 'UTC')   COMMENT 'circumstance: when the step was published' CODEC(Delta, ZSTD(1)),
    revision                UInt64                 COMMENT 'circumstance: sequence in its stream; the highest wins' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision) ORDER BY (run_id, iteration, epoch, prompt_id, sample_iteration, draw)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'A pair (human answer, generated answer) at each step that used it.';

CREATE TABLE IF NOT EXISTS steps
(
    run_id                  LowCardinality(String) COMMENT 'circumstance: the run',
    phase                   LowCardinality(String) COMMENT 'content: sft, spin, or control (fine-tuning that goes on where SPIN starts)',
    iteration               UInt32                 COMMENT 'content: iteration trained in; 0 for sft' CODEC(Delta, ZSTD(1)),
    step                    UInt32                 COMMENT 'content: step inside the iteration, from 1' CODEC(Delta, ZSTD(1)),
    epoch                   UInt32                 COMMENT 'content: epoch, from 1',
    steps                   UInt32                 COMMENT 'content: steps that the iteration will have',
    loss                    Float64                COMMENT 'content: objective, mean over pairs; sft and control: negative log-likelihood per token' CODEC(Gorilla, ZSTD(1)),
    reward_real             Float64                COMMENT 'content: beta x (logp - opponent_logp) of the human answers, mean' CODEC(Gorilla, ZSTD(1)),
    reward_generated        Float64                COMMENT 'content: the same of the generated answers' CODEC(Gorilla, ZSTD(1)),
    accuracy                Float64                COMMENT 'content: share of pairs with reward_real > reward_generated; a tie is wrong' CODEC(Gorilla, ZSTD(1)),
    margin                  Float64                COMMENT 'content: mean of reward_real - reward_generated' CODEC(Gorilla, ZSTD(1)),
    logp_real               Float64                COMMENT 'content: log p of the human answers, summed over tokens, mean over pairs' CODEC(Gorilla, ZSTD(1)),
    logp_generated          Float64                COMMENT 'content: the same of the generated answers' CODEC(Gorilla, ZSTD(1)),
    opponent_logp_real      Float64                COMMENT 'content: the human answers under theta_t' CODEC(Gorilla, ZSTD(1)),
    opponent_logp_generated Float64                COMMENT 'content: the generated answers under theta_t' CODEC(Gorilla, ZSTD(1)),
    learning_rate           Float64                COMMENT 'content: of this step' CODEC(Gorilla, ZSTD(1)),
    beta                    Float64                COMMENT 'content: the paper''s lambda' CODEC(Gorilla, ZSTD(1)),
    grad_norm               Float64                COMMENT 'content: global gradient norm before clipping' CODEC(Gorilla, ZSTD(1)),
    entropy                 Float64                COMMENT 'content: mean next-token entropy over generated tokens, nats' CODEC(Gorilla, ZSTD(1)),
    nll_real                Float64                COMMENT 'content: negative log-likelihood of the human answers, nats per token' CODEC(Gorilla, ZSTD(1)),
    length_real             Float64                COMMENT 'content: mean tokens of a human answer' CODEC(Gorilla, ZSTD(1)),
    length_generated        Float64                COMMENT 'content: mean tokens of a generated answer' CODEC(Gorilla, ZSTD(1)),
    games                   UInt32                 COMMENT 'content: games of the batch' CODEC(T64, ZSTD(1)),
    pairs                   UInt32                 COMMENT 'content: pairs of the batch' CODEC(T64, ZSTD(1)),
    tokens                  UInt64                 COMMENT 'content: tokens of the packed batch, shared prompts counted once' CODEC(T64, ZSTD(1)),
    seconds                 Float64                COMMENT 'circumstance: time that the step took' CODEC(Gorilla, ZSTD(1)),
    tokens_per_s            Float64                COMMENT 'circumstance: tokens / seconds' CODEC(Gorilla, ZSTD(1)),
    peak_memory_bytes       UInt64                 COMMENT 'circumstance: of the process or the device; 0: not measured' CODEC(T64, ZSTD(1)),
    instance                LowCardinality(String) COMMENT 'circumstance: trainer',
    attempt                 UInt32                 COMMENT 'circumstance: trainer takeovers, from 1; a repeated step replaces its row',
    created_at              DateTime64(6, 'UTC')   COMMENT 'circumstance: when it was published' CODEC(DoubleDelta, ZSTD(1)),
    revision                UInt64                 COMMENT 'circumstance: sequence in its stream; the highest wins' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision) ORDER BY (run_id, phase, iteration, step)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'An optimizer step: means over its pairs (sft and control: over its answers).';

CREATE TABLE IF NOT EXISTS scores
(
    run_id          LowCardinality(String) COMMENT 'circumstance: the run',
    iteration       UInt32                 COMMENT 'content: t of the scored theta_t',
    phase           LowCardinality(String) COMMENT 'content: what made the weights: base, sft, spin, control',
    task            LowCardinality(String) COMMENT 'content: what was asked: heldout, gsm8k, …',
    metric          LowCardinality(String) COMMENT 'content: what was measured: accuracy, nll, distinct_2, …',
    split           LowCardinality(String) COMMENT 'content: split that it was measured on',
    value           Float64                COMMENT 'content: the figure' CODEC(ZSTD(1)),
    stderr          Float64                COMMENT 'content: its standard error; 0 with n < 2' CODEC(ZSTD(1)),
    n               UInt64                 COMMENT 'content: examples measured',
    weights_sha256  LowCardinality(String) COMMENT 'content: weights measured',
    task_version    LowCardinality(String) COMMENT 'content: version of the task''s data and prompt',
    harness_version LowCardinality(String) COMMENT 'content: version of the code that measured',
    template_id     LowCardinality(String) COMMENT 'content: chat template used',
    shots           UInt32                 COMMENT 'content: few-shot examples in the prompt',
    fingerprint     LowCardinality(String) COMMENT 'content: engine that measured',
    instance        LowCardinality(String) COMMENT 'circumstance: evaluator',
    attempt         UInt32                 COMMENT 'circumstance: delivery of the task, from 1',
    seconds         Float64                COMMENT 'circumstance: time that measuring took',
    created_at      DateTime64(6, 'UTC')   COMMENT 'circumstance: when it was published' CODEC(Delta, ZSTD(1)),
    revision        UInt64                 COMMENT 'circumstance: sequence in its stream; the highest wins' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision) ORDER BY (run_id, task, metric, split, phase, iteration)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'A figure of a checkpoint on a task.';

CREATE TABLE IF NOT EXISTS events
(
    run_id     LowCardinality(String) COMMENT 'circumstance: the run',
    created_at DateTime64(6, 'UTC')   COMMENT 'circumstance: when' CODEC(DoubleDelta, ZSTD(1)),
    id         String                 COMMENT 'circumstance: unique id' CODEC(ZSTD(1)),
    service    LowCardinality(String) COMMENT 'circumstance: generator, trainer, evaluator, recorder or spin',
    instance   LowCardinality(String) COMMENT 'circumstance: which of them',
    kind       LowCardinality(String) COMMENT 'circumstance: what happened: run_state, first_loss, dead_letter, …',
    level      LowCardinality(String) COMMENT 'circumstance: info, warn or alarm',
    iteration  UInt32                 COMMENT 'circumstance: iteration that it is about',
    message    String                 COMMENT 'circumstance: one line for people' CODEC(ZSTD(3)),
    body       String                 COMMENT 'circumstance: JSON for programs' CODEC(ZSTD(3)),
    revision   UInt64                 COMMENT 'circumstance: sequence in its stream; the highest wins' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision) PARTITION BY toYYYYMM(created_at) ORDER BY (run_id, created_at, id)
TTL toDateTime(created_at) + INTERVAL 180 DAY
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1
COMMENT 'What people want to know: lifecycle, alarms, leases, engine changes. Kept for 180 days.';

-- +goose Down
DROP TABLE IF EXISTS events;
DROP TABLE IF EXISTS scores;
DROP TABLE IF EXISTS steps;
DROP TABLE IF EXISTS pairs;
DROP TABLE IF EXISTS samples;
DROP TABLE IF EXISTS games;
DROP TABLE IF EXISTS prompts;
DROP TABLE IF EXISTS checkpoints;
DROP TABLE IF EXISTS iterations;
DROP TABLE IF EXISTS runs;
