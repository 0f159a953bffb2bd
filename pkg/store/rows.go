package store

import "time"

// The row types are the tables of migrations/0001_tables.sql, column by column;
// what a column means is said there and in SCHEMA.md. RunID is the UUIDv7 without
// dashes, digests are lower-case hexadecimal, and Revision is the position in
// the row's stream (or the revision of its control key): of two rows with one
// identity, the higher one stays.

// Run is a row of runs.
type Run struct {
	RunID       string     `ch:"run_id"`
	Name        string     `ch:"name"`
	Model       string     `ch:"model"`
	BaseSHA256  string     `ch:"base_sha256"`
	Seed        uint64     `ch:"seed"`
	Spec        string     `ch:"spec"`
	Config      string     `ch:"config"`
	TemplateID  string     `ch:"template_id"`
	Fingerprint string     `ch:"fingerprint"`
	State       string     `ch:"state"`
	Error       string     `ch:"error"`
	Build       string     `ch:"build"`
	CreatedAt   time.Time  `ch:"created_at"`
	FinishedAt  *time.Time `ch:"finished_at"`
	Revision    uint64     `ch:"revision"`
	Played      uint32     `ch:"played"`
	StopReason  string     `ch:"stop_reason"`
}

// Iteration is a row of iterations.
type Iteration struct {
	RunID          string     `ch:"run_id"`
	Iteration      uint32     `ch:"iteration"`
	OpponentSHA256 string     `ch:"opponent_sha256"`
	WeightsSHA256  string     `ch:"weights_sha256"`
	GamesSHA256    string     `ch:"games_sha256"`
	Games          uint32     `ch:"games"`
	Holes          uint32     `ch:"holes"`
	Pairs          uint32     `ch:"pairs"`
	Steps          uint32     `ch:"steps"`
	State          string     `ch:"state"`
	Error          string     `ch:"error"`
	Attempt        uint32     `ch:"attempt"`
	StartedAt      time.Time  `ch:"started_at"`
	FinishedAt     *time.Time `ch:"finished_at"`
	Revision       uint64     `ch:"revision"`
}

// Checkpoint is a row of checkpoints.
type Checkpoint struct {
	RunID         string    `ch:"run_id"`
	Iteration     uint32    `ch:"iteration"`
	Phase         string    `ch:"phase"`
	WeightsSHA256 string    `ch:"weights_sha256"`
	BaseSHA256    string    `ch:"base_sha256"`
	DType         string    `ch:"dtype"`
	Fingerprint   string    `ch:"fingerprint"`
	TemplateID    string    `ch:"template_id"`
	Adapter       bool      `ch:"adapter"`
	Bytes         uint64    `ch:"bytes"`
	URI           string    `ch:"uri"`
	Files         []string  `ch:"files"`
	FileSHA256s   []string  `ch:"file_sha256s"`
	Instance      string    `ch:"instance"`
	Attempt       uint32    `ch:"attempt"`
	CreatedAt     time.Time `ch:"created_at"`
	Revision      uint64    `ch:"revision"`
}

// Prompt is a row of prompts.
type Prompt struct {
	RunID         string   `ch:"run_id"`
	PromptID      string   `ch:"prompt_id"`
	Position      uint64   `ch:"position"`
	Split         string   `ch:"split"`
	Prompt        string   `ch:"prompt"`
	Messages      string   `ch:"messages"`
	Real          string   `ch:"real"`
	PromptIDs     []uint32 `ch:"prompt_ids"`
	RealIDs       []uint32 `ch:"real_ids"`
	NPromptTokens uint32   `ch:"n_prompt_tokens"`
	NRealTokens   uint32   `ch:"n_real_tokens"`
	TemplateID    string   `ch:"template_id"`
	Revision      uint64   `ch:"revision"`
}

// Game is a row of games.
type Game struct {
	RunID          string    `ch:"run_id"`
	Iteration      uint32    `ch:"iteration"`
	PromptID       string    `ch:"prompt_id"`
	Split          string    `ch:"split"`
	WeightsSHA256  string    `ch:"weights_sha256"`
	TemplateID     string    `ch:"template_id"`
	Fingerprint    string    `ch:"fingerprint"`
	Temperature    float32   `ch:"temperature"`
	TopP           float32   `ch:"top_p"`
	TopK           uint32    `ch:"top_k"`
	MaxNewTokens   uint32    `ch:"max_new_tokens"`
	Draws          uint32    `ch:"draws"`
	Kept           uint32    `ch:"kept"`
	RealLogp       float64   `ch:"real_logp"`
	RealTokenLogps []float32 `ch:"real_token_logps"`
	RealEntropy    float32   `ch:"real_entropy"`
	Hole           string    `ch:"hole"`
	Generator      string    `ch:"generator"`
	Attempt        uint32    `ch:"attempt"`
	LatencyMS      float32   `ch:"latency_ms"`
	CreatedAt      time.Time `ch:"created_at"`
	Revision       uint64    `ch:"revision"`
}

// Sample is a row of samples.
type Sample struct {
	RunID         string    `ch:"run_id"`
	Iteration     uint32    `ch:"iteration"`
	PromptID      string    `ch:"prompt_id"`
	Draw          uint32    `ch:"draw"`
	SampleID      string    `ch:"sample_id"`
	Split         string    `ch:"split"`
	WeightsSHA256 string    `ch:"weights_sha256"`
	Text          string    `ch:"text"`
	TokenIDs      []uint32  `ch:"token_ids"`
	TokenLogps    []float32 `ch:"token_logps"`
	SamplingLogps []float32 `ch:"sampling_logps"`
	Logp          float64   `ch:"logp"`
	NTokens       uint32    `ch:"n_tokens"`
	FinishReason  string    `ch:"finish_reason"`
	Entropy       float32   `ch:"entropy"`
	Seed          uint64    `ch:"seed"`
	TemplateID    string    `ch:"template_id"`
	Fingerprint   string    `ch:"fingerprint"`
	Generator     string    `ch:"generator"`
	Attempt       uint32    `ch:"attempt"`
	LatencyMS     float32   `ch:"latency_ms"`
	CreatedAt     time.Time `ch:"created_at"`
	Revision      uint64    `ch:"revision"`
}

// Pair is a row of pairs.
type Pair struct {
	RunID                 string    `ch:"run_id"`
	Iteration             uint32    `ch:"iteration"`
	Epoch                 uint32    `ch:"epoch"`
	Step                  uint32    `ch:"step"`
	PromptID              string    `ch:"prompt_id"`
	Draw                  uint32    `ch:"draw"`
	SampleIteration       uint32    `ch:"sample_iteration"`
	LogpReal              float64   `ch:"logp_real"`
	LogpGenerated         float64   `ch:"logp_generated"`
	OpponentLogpReal      float64   `ch:"opponent_logp_real"`
	OpponentLogpGenerated float64   `ch:"opponent_logp_generated"`
	Loss                  float64   `ch:"loss"`
	Margin                float64   `ch:"margin"`
	Beta                  float64   `ch:"beta"`
	Instance              string    `ch:"instance"`
	Attempt               uint32    `ch:"attempt"`
	CreatedAt             time.Time `ch:"created_at"`
	Revision              uint64    `ch:"revision"`
}

// Step is a row of steps.
type Step struct {
	RunID                 string    `ch:"run_id"`
	Phase                 string    `ch:"phase"`
	Iteration             uint32    `ch:"iteration"`
	Step                  uint32    `ch:"step"`
	Epoch                 uint32    `ch:"epoch"`
	Steps                 uint32    `ch:"steps"`
	Loss                  float64   `ch:"loss"`
	RewardReal            float64   `ch:"reward_real"`
	RewardGenerated       float64   `ch:"reward_generated"`
	Accuracy              float64   `ch:"accuracy"`
	Margin                float64   `ch:"margin"`
	LogpReal              float64   `ch:"logp_real"`
	LogpGenerated         float64   `ch:"logp_generated"`
	OpponentLogpReal      float64   `ch:"opponent_logp_real"`
	OpponentLogpGenerated float64   `ch:"opponent_logp_generated"`
	LearningRate          float64   `ch:"learning_rate"`
	Beta                  float64   `ch:"beta"`
	GradNorm              float64   `ch:"grad_norm"`
	Entropy               float64   `ch:"entropy"`
	NLLReal               float64   `ch:"nll_real"`
	LengthReal            float64   `ch:"length_real"`
	LengthGenerated       float64   `ch:"length_generated"`
	Games                 uint32    `ch:"games"`
	Pairs                 uint32    `ch:"pairs"`
	Tokens                uint64    `ch:"tokens"`
	Seconds               float64   `ch:"seconds"`
	TokensPerS            float64   `ch:"tokens_per_s"`
	PeakMemoryBytes       uint64    `ch:"peak_memory_bytes"`
	Instance              string    `ch:"instance"`
	Attempt               uint32    `ch:"attempt"`
	CreatedAt             time.Time `ch:"created_at"`
	Revision              uint64    `ch:"revision"`
}

// Score is a row of scores.
type Score struct {
	RunID          string    `ch:"run_id"`
	Iteration      uint32    `ch:"iteration"`
	Phase          string    `ch:"phase"`
	Task           string    `ch:"task"`
	Metric         string    `ch:"metric"`
	Split          string    `ch:"split"`
	Value          float64   `ch:"value"`
	Stderr         float64   `ch:"stderr"`
	N              uint64    `ch:"n"`
	WeightsSHA256  string    `ch:"weights_sha256"`
	TaskVersion    string    `ch:"task_version"`
	HarnessVersion string    `ch:"harness_version"`
	TemplateID     string    `ch:"template_id"`
	Shots          uint32    `ch:"shots"`
	Fingerprint    string    `ch:"fingerprint"`
	Instance       string    `ch:"instance"`
	Attempt        uint32    `ch:"attempt"`
	Seconds        float64   `ch:"seconds"`
	CreatedAt      time.Time `ch:"created_at"`
	Revision       uint64    `ch:"revision"`
	Low            float64   `ch:"low"`
	High           float64   `ch:"high"`
}

// Event is a row of events.
type Event struct {
	RunID     string    `ch:"run_id"`
	CreatedAt time.Time `ch:"created_at"`
	ID        string    `ch:"id"`
	Service   string    `ch:"service"`
	Instance  string    `ch:"instance"`
	Kind      string    `ch:"kind"`
	Level     string    `ch:"level"`
	Iteration uint32    `ch:"iteration"`
	Message   string    `ch:"message"`
	Body      string    `ch:"body"`
	Revision  uint64    `ch:"revision"`
}
