#!/bin/sh
# cuda.sh headers|nvrtc|env: what a machine without a GPU and without NVIDIA's toolkit needs to build
# and test the CUDA engine, from the Python index, checked, into the cache folder.
#
#   headers   cuda.h and its like, 0.9 MB: to compile gorgonia.org/cu. Prints the folder.
#   nvrtc     NVIDIA's run-time compiler, 25 MB: to make the kernels' PTX again. Prints the library.
#   env       fetches headers if need be and prints what to eval before go build -tags cuda. NVRTC
#             is named where it is in the cache.
#
# CUDA_INCLUDE=DIR uses the headers of an installed toolkit (12.x) instead. The cache folder is
# $SPIN_CACHE, else $XDG_CACHE_HOME/spin, else ~/.cache/spin.
set -eu

cache=${SPIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spin}/cuda-12.4
here=$(cd "$(dirname "$0")/.." && pwd)

die() {
	echo "cuda: $*" >&2
	exit 2
}

# wheel PACKAGE SHA256 FOLDER: downloads a wheel and leaves its FOLDER in the cache under the same name.
wheel() {
	if command -v pip >/dev/null 2>&1; then pip=pip
	elif command -v pip3 >/dev/null 2>&1; then pip=pip3
	else die "pip is not installed: 'apt-get install python3-pip'"; fi
	mkdir -p "$cache" || die "cannot make the cache folder $cache: set SPIN_CACHE to one that can be written"
	tmp=$(mktemp -d "$cache/fetch.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	echo "fetching $1 (pip)" >&2
	$pip download --quiet --no-deps --disable-pip-version-check --only-binary=:all: --dest "$tmp" "$1" >&2 ||
		die "pip could not download $1: try again, or set CUDA_INCLUDE to a toolkit's include folder"
	got=$(sha256sum "$tmp"/*.whl | cut -d' ' -f1)
	[ "$got" = "$2" ] || die "$1 has sha256 $got, want $2: the package changed or the download broke"
	python3 -m zipfile -e "$tmp"/*.whl "$tmp/x"
	rm -rf "${cache:?}/$3"
	mkdir -p "$(dirname "$cache/$3")"
	mv "$tmp/x/nvidia/$3" "$cache/$3"
	rm -rf "$tmp"
	trap - EXIT
}

headers() {
	if [ -n "${CUDA_INCLUDE:-}" ]; then
		[ -f "$CUDA_INCLUDE/cuda.h" ] || die "CUDA_INCLUDE is $CUDA_INCLUDE, which has no cuda.h"
		echo "$CUDA_INCLUDE"
		return
	fi
	[ -f "$cache/cuda_runtime/include/cuda.h" ] || wheel nvidia-cuda-runtime-cu12==12.4.127 \
		64403288fa2136ee8e467cdc9c9427e0434110899d07c779f25b5c068934faa5 cuda_runtime/include
	echo "$cache/cuda_runtime/include"
}

library=$cache/cuda_nvrtc/lib/libnvrtc.so.12

case "${1:-}" in
headers) headers ;;
nvrtc)
	[ -f "$library" ] || wheel nvidia-cuda-nvrtc-cu12==12.4.127 \
		a178759ebb095827bd30ef56598ec182b85547f1508941a3d560eb7ea1fbf338 cuda_nvrtc/lib
	echo "$library"
	;;
env)
	include=$(headers)
	echo "export CGO_ENABLED=1 CGO_CFLAGS='-O2 -w -I$include' CGO_LDFLAGS='-L$here/compute/cuda/driver/lib'"
	[ ! -f "$library" ] || echo "export NVRTC_LIBRARY='$library'"
	;;
*) die "usage: cuda.sh headers|nvrtc|env" ;;
esac
