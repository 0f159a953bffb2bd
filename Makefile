# make run     plays SPIN with a real model on real human answers; ARGS='…' passes flags on
# make test    all tests; .ci/run adds what else a change must pass
# make help    the other targets

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 10s
ARGS        ?=
BENCH       ?= .
ROWS        ?=

export CGO_ENABLED ?= 0

.PHONY: help build cuda model answers clickhouse run test test-long chaos test-cuda lint fuzz bench bench-peers eval-oracle generate clean

help:
	@echo 'run         fetch what is missing, then play two iterations (ARGS=…)'
	@echo 'test        all tests; test-long adds the slow ones'
	@echo 'chaos       the trials of deploy/RELIABILITY.md in their long form, half an hour'
	@echo 'build       bin/spin, bin/generator, bin/trainer, bin/evaluator, bin/recorder'
	@echo 'cuda        the same for NVIDIA GPUs: bin/spin-cuda, bin/generator-cuda, …'
	@echo 'model       fetch the default model into the cache folder; answers, clickhouse: likewise'
	@echo 'test-cuda   the CUDA engine on an emulated driver'
	@echo 'lint        gofmt, vet, staticcheck'
	@echo 'fuzz        every fuzz target for $(FUZZTIME)'
	@echo 'bench       benchmarks of every operation and of the whole model (BENCH=regexp)'
	@echo 'bench-peers the same work by PyTorch, TRL, transformers and llama.cpp, side by side (ROWS=…)'
	@echo 'eval-oracle lm-evaluation-harness and ours on the same questions (SPIN_PYTHON=…)'
	@echo 'generate    assembly and Protobuf again from their sources'

build:
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ ./services/...

cuda: # needs gcc; fetches CUDA's headers by package name. What it builds needs libc, and the driver where there is a GPU
	@mkdir -p bin
	@env=$$(sh deploy/cuda.sh env) && eval "$$env" && for name in spin generator trainer evaluator; do \
		echo "bin/$$name-cuda" && $(GO) build -trimpath -tags cuda,netgo,osusergo -o bin/$$name-cuda ./services/$$name || exit 1; done

model answers clickhouse:
	@sh deploy/fetch.sh $@

run: build model answers clickhouse
	bin/spin run $(ARGS)

test: model answers clickhouse
	SPIN_MODEL_REQUIRED=1 SPIN_CHDB_REQUIRED=1 $(GO) test -timeout 20m ./...

test-long: test
	SPIN_MODEL_REQUIRED=1 SPIN_CHDB_REQUIRED=1 $(GO) test -timeout 60m \
		$$(grep -rl 'flag.Bool("long"' --include='*_test.go' . | xargs -n 1 dirname | sort -u) -args -long

chaos: clickhouse # its last line says how many trials passed
	@mkdir -p bin
	$(GO) test -c -o bin/chaos.test ./services/e2e
	cd services/e2e && SPIN_CHDB_REQUIRED=1 ../../bin/chaos.test -test.run '^TestTrials$$' -test.v -test.timeout 3h -chaos

test-cuda: # needs g++; fetches CUDA's headers and compiler by package name
	@sh deploy/cuda.sh nvrtc >/dev/null && eval "$$(sh deploy/cuda.sh env)" && \
	CGO_ENABLED=1 $(GO) vet -tags cuda ./compute/cuda/... && CGO_ENABLED=1 $(GO) test -tags cuda ./compute/cuda/... && \
	CGO_ENABLED=1 $(GO) test -tags cuda -run TestDevice ./services/process

lint:
	@out=$$(gofmt -l .); test -z "$$out" || { echo "gofmt: $$out"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

fuzz:
	@GO="$(GO)" FUZZTIME=$(FUZZTIME) sh .ci/fuzz.sh

bench: model
	$(GO) test -run '^$$' -bench '$(BENCH)' -timeout 60m ./compute/cpu ./pkg/...

bench-peers: # 6 GB of Python packages; SPIN_PEERS_VENV=… takes an environment that has them
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ ./bench/spinbench ./bench/compare
	$(GO) test -c -o bin/cpu.test ./compute/cpu
	@model=$$(sh deploy/fetch.sh model) && answers=$$(sh deploy/fetch.sh answers) && \
	peers=$$(SPINBENCH=bin/spinbench sh bench/peers/prepare.sh "$$model" "$$answers") && \
	bin/compare -python "$${SPIN_PEERS_VENV:-$$peers/venv}/bin/python" -peers "$$peers" -model "$$model" \
		-spinbench bin/spinbench -cpu-test bin/cpu.test -rows '$(ROWS)' $(ARGS)

eval-oracle: build model # 6 GB of Python packages the first time
	@sh pkg/harness/oracle.sh "$$(sh deploy/fetch.sh model)"

generate:
	$(GO) generate ./...

clean:
	rm -rf bin
