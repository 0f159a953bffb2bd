#!/bin/sh
# Opens `spin report` in Chromium as people would: two short runs of the tests' model, each run's page and the two compared,
# light and dark, wide and narrow. axe-core may find no violation, the console may say nothing, and every chart must have been
# drawn. Screenshots are left in the folder that REPORT_OUT names, where it is given.
#
# Chromium is Debian's, installed where this is root; puppeteer-core and axe-core come from npm into the cache folder, once.
# What can't be had is said and left out; REPORT_REQUIRED=1 makes that a failure. bin/spin must be built, and the embedded
# ClickHouse engine fetched (make clickhouse).
set -eu
cd "$(dirname "$0")/.."

missing() {
	echo "report: $*: left out"
	[ -z "${REPORT_REQUIRED:-}" ] || exit 1
	exit 0
}

if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	{ apt-get update && apt-get install -y --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>&1 || true
fi
CHROMIUM=$(command -v chromium) || missing "no chromium"
export CHROMIUM
command -v npm >/dev/null || missing "no npm"

puppeteer=25.16.0 axe=4.14.1
tools=${SPIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spin}/report-$puppeteer-$axe
if [ ! -e "$tools/complete" ]; then
	rm -rf "$tools"
	mkdir -p "$tools"
	timeout 300 npm install --prefix "$tools" --ignore-scripts --no-audit --no-fund --silent "puppeteer-core@$puppeteer" "axe-core@$axe" ||
		missing "npm has no puppeteer-core and axe-core"
	touch "$tools/complete"
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
awk 'BEGIN { for (i = 1; i <= 40; i++) printf "{\"prompt\": \"What colour is thing number %d?\", \"response\": \"Thing %d is green, I think.\"}\n", i, i }' >"$out/answers.jsonl"
run() {
	bin/spin run --dir "$out/data" --model services/trainer/train/testdata/tiny --data "$out/answers.jsonl" --prompts 24 --heldout 8 \
		--iterations 2 --sft-epochs 1 --max-new-tokens 12 --dtype f32 --listen "" "$@" >"$out/log" 2>&1 || { cat "$out/log" && exit 1; }
}
run --name "small rate" --lr 1e-4 --control sft
run --name "large rate" --lr 0.05 --stop-when no_gain
report() { bin/spin report --dir "$out/data" "$@" >/dev/null; }
ids=$(bin/spin sql --dir "$out/data" --format TSV 'SELECT run_id FROM runs FINAL ORDER BY created_at')
# shellcheck disable=SC2086 # a list
set -- $ids
report --output "$out/run.html" "$1"
report --output "$out/stopped.html" "$2"
report --output "$out/compare.html" "$1" "$2"
NODE_PATH="$tools/node_modules" node .ci/report.cjs "${REPORT_OUT:-$out}" "$out/run.html" "$out/stopped.html" "$out/compare.html"
