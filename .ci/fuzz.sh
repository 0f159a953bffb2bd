#!/bin/sh
# Runs every native fuzz target of the module for $FUZZTIME each.
#
# Up to Go 1.26 the coordinator can report its own deadline as a failure of the target
# (go.dev/issue/75804): a bare "context deadline exceeded", and no failing input. That is no finding.
set -eu
go=${GO:-go}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for file in $(grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | sort); do
	for target in $(grep -oE '^func Fuzz[A-Za-z0-9_]*' "$file" | cut -c6-); do
		echo "fuzz $(dirname "$file") $target"
		if $go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" -fuzzminimizetime 10x "$(dirname "$file")" >"$log" 2>&1; then
			tail -n 1 "$log"
		elif grep -q '^ *context deadline exceeded$' "$log" && ! grep -qE 'Failing input|panic:' "$log"; then
			echo "ok, but for the coordinator's deadline"
		else
			cat "$log"
			exit 1
		fi
	done
done
