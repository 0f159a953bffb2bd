#!/bin/sh
# Asks lm-evaluation-harness and us the same questions of the default model, and compares question by question. Needs pip, and 6 GB
# for its Python packages the first time; SPIN_PYTHON names a python that has them.
#
#     oracle.sh MODEL.gguf [ROWS]
set -eu
model=$1 rows=${2:-12}
here=$(cd "$(dirname "$0")" && pwd)
cache=${SPIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spin}
if [ -z "${SPIN_PYTHON:-}" ]; then
	venv=$cache/lm-eval-0.4.13
	SPIN_PYTHON=$venv/bin/python
	if [ ! -e "$venv/complete" ]; then
		python3 -m venv "$venv"
		"$SPIN_PYTHON" -m pip install --quiet lm-eval==0.4.13 torch==2.15.0 transformers==5.24.0 datasets==5.2.0 safetensors gguf
		touch "$venv/complete"
	fi
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
"$here/../../bin/spin" export --model "$model" --output "$work/model" >/dev/null
"$SPIN_PYTHON" "$here/testdata/make_oracle.py" data "$work/data" --rows "$rows"
"$SPIN_PYTHON" "$here/testdata/make_oracle.py" run "$work/model" "$work/data" "$work/oracle.json" --limit "$rows" --shots 3 2>"$work/log" || { tail -n 5 "$work/log"; exit 1; }
cd "$here/../.."
SPIN_ORACLE="$work/oracle.json" SPIN_ORACLE_DATA="$work/data" SPIN_ORACLE_MODEL="$work/model" go test -count=1 -timeout 60m -v -run '^TestOracle$' ./services/evaluator/benchmark
