#!/bin/sh
# Runs every native fuzz target of the module for $FUZZTIME each.
set -eu
go=${GO:-go}
for file in $(grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | sort); do
	for target in $(grep -oE '^func Fuzz[A-Za-z0-9_]*' "$file" | cut -c6-); do
		echo "fuzz $(dirname "$file") $target"
		$go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" -fuzzminimizetime 10x "$(dirname "$file")"
	done
done
