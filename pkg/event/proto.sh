#!/bin/sh
# proto.sh generate | lint | breaking REF
#
#   generate      writes *.pb.go from proto/, and fails on a diff in CI by `git diff --exit-code pkg/event`
#   lint          buf's STANDARD rules, a comment on everything, and the formatter
#   breaking REF  no change against git ref REF that would break a reader of stored messages
#
# buf is the npm package with its binary inside; BUF names another one. protoc-gen-go is the version in go.mod.
set -eu
cd "$(dirname "$0")"
buf=${BUF:-npx --yes @bufbuild/buf@1.75.0}
case ${1:-} in
generate) $buf generate ;;
lint) $buf lint && $buf format --diff --exit-code ;;
breaking)
	root=$(git rev-parse --show-toplevel)
	if ! git cat-file -e "${2:?proto.sh breaking REF}:pkg/event/proto" 2>/dev/null; then
		echo "proto.sh: $2 has no pkg/event/proto yet, nothing to compare" >&2
		exit 0
	fi
	$buf breaking --against "$root/.git#ref=$(git rev-parse "$2"),subdir=pkg/event"
	;;
*) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
