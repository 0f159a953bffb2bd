#!/bin/sh
# prepare.sh MODEL.gguf ANSWERS: brings the peers into the cache folder by package name, converts the
# model for them and makes the games, and prints the folder. What is there is not made again.
# SPIN_PEERS_VENV: an environment that has the peers already.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${SPIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spin}
peers=$cache/peers
venv=${SPIN_PEERS_VENV:-$peers/venv}
mkdir -p "$peers"

if [ ! -x "$venv/bin/python" ]; then
	python3 -m venv "$venv" >&2
fi
if [ -z "${SPIN_PEERS_VENV:-}" ] && ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
	echo "installing the peers (6 GB, minutes)" >&2
	"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
	CMAKE_ARGS="-DGGML_NATIVE=ON" CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) "$venv/bin/pip" install --quiet \
		--disable-pip-version-check --no-binary llama-cpp-python llama-cpp-python==0.3.36 >&2
	cp "$here/requirements.txt" "$venv/requirements.txt"
fi
python=$venv/bin/python
if [ ! -f "$peers/hf/model.safetensors" ]; then
	rm -rf "$peers/hf.part"
	"$python" "$here/convert_gguf.py" "$1" "$peers/hf.part" >&2
	rm -rf "$peers/hf"
	mv "$peers/hf.part" "$peers/hf"
fi
for kind in f32 bf16; do
	[ -f "$peers/$kind.gguf" ] || "$python" "$here/requantize.py" "$1" "$peers/$kind.gguf" "$kind" >&2
done
[ -f "$peers/games-chat.jsonl" ] || { "${SPINBENCH:?}" games "$1" "$2" "$peers/games-chat.part" >&2 && mv "$peers/games-chat.part" "$peers/games-chat.jsonl"; }
echo "$peers"
