#!/bin/sh
# Makes the Python environment of deploy/examples/python-generator in the cache folder, once for each version of its
# requirements, and prints its python; fails where pip can't.
set -eu
requirements=$(cd "$(dirname "$0")/.." && pwd)/deploy/examples/python-generator/requirements.txt
venv=${SPIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spin}/python-generator-$(sha256sum "$requirements" | cut -c1-12)
if [ ! -e "$venv/installed" ]; then
	rm -rf "$venv"
	python3 -m venv "$venv" >&2
	timeout 300 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2
	touch "$venv/installed"
fi
echo "$venv/bin/python"
