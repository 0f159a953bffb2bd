#!/bin/sh
# Checks deploy/ without a cluster: helm lint and template with few and with all options, the rendered objects against
# Kubernetes' schemas, the compose file against the Compose Specification, the broker's files by nats-server, rules by promtool,
# then what no schema knows (deploy.py). Tools come by package name into the cache folder, once. What can't be had is said and
# left out; DEPLOY_REQUIRED=1 makes that a failure. bin/ must be built.
set -eu
cd "$(dirname "$0")/.."
cache=${SPIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spin}/deploy-tools
mkdir -p "$cache"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

missing() {
	echo "deploy: $*: left out"
	[ -z "${DEPLOY_REQUIRED:-}" ] || exit 1
}

# tool NAME PACKAGE: builds a Go program into the cache under NAME, once for each version.
tool() {
	bin=$cache/$1-${2##*@}
	[ -x "$bin" ] && return
	rm -rf "$cache/build"
	mkdir "$cache/build"
	echo "deploy: building $2"
	GOBIN=$cache/build timeout 600 go install "$2" || return 1
	mv "$cache"/build/* "$bin"
}

python=$cache/venv/bin/python
if ! "$python" -c 'import kubernetes_validate, yamllint, yaml' 2>/dev/null; then
	rm -rf "$cache/venv"
	if ! { python3 -m venv "$cache/venv" && timeout 300 "$python" -m pip install --quiet --disable-pip-version-check \
		kubernetes-validate==1.37.0 yamllint==1.38.0 PyYAML==6.0.4; }; then
		rm -rf "$cache/venv"
		missing "no Python packages: the objects' schemas, yamllint and our own assertions"
	fi
fi

chart=deploy/helm/spin
if tool helm helm.sh/helm/v3/cmd/helm@v3.22.0; then
	export HELM_CACHE_HOME="$out/helm" HELM_CONFIG_HOME="$out/helm" HELM_DATA_HOME="$out/helm"
	for values in "" "$chart"/ci/*-values.yaml; do
		name=$(basename "${values:-default}" -values.yaml)
		"$bin" lint --strict --quiet ${values:+-f "$values"} "$chart"
		"$bin" template spin "$chart" --namespace spin --kube-version 1.34.0 ${values:+-f "$values"} >"$out/$name.yaml"
		[ -x "$python" ] || continue
		"$python" .ci/deploy.py objects "$out/$name.yaml" "$out/$name.core.yaml"
		"$python" -m kubernetes_validate --strict --quiet -k 1.34 "$out/$name.core.yaml"
	done
	if "$bin" template spin "$chart" --kube-version 1.34.0 --set keda.enabled=true >/dev/null 2>&1; then
		echo "deploy: keda.enabled without keda.runs renders" && exit 1
	fi
	echo "deploy: the chart is well (KEDA's ScaledObject has no schema here: only our own assertions)"
else
	missing "helm could not be built"
fi

if (cd .ci/compose && timeout 300 go build -o "$cache/compose" .); then
	mkdir -p "$out/keys"
	touch "$out/keys/nats.env"
	SPIN_KEYS="$out/keys" SPIN_DATA="$out/data" SPIN_USER=1000:1000 "$cache/compose" deploy/compose/compose.yaml >"$out/compose.json"
	[ ! -x "$python" ] || "$python" .ci/deploy.py compose "$out/compose.json"
	echo "deploy: the compose file is well"
else
	missing "compose-go could not be built"
fi

if tool nats-server github.com/nats-io/nats-server/v2@"$(go list -m -f '{{.Version}}' github.com/nats-io/nats-server/v2)"; then
	if command -v openssl >/dev/null; then
		sh deploy/keys.sh "$out/nats" nats-1 nats-2 nats-3 >/dev/null
		set -a
		. "$out/nats/nats.env"
		SPIN_NATS_NAME=nats-1
		for n in 1 2 3; do eval "SPIN_NATS_ROUTE_$n=nats-route://nats-$n:6222"; done
		set +a
		for conf in nats-server cluster; do
			"$bin" -t -c "deploy/nats/$conf.conf"
		done
	else
		missing "no openssl for keys: the broker's configuration"
	fi
else
	missing "nats-server could not be built"
fi

rules=$(find deploy -name '*.rules.yaml' -o -path 'deploy/prometheus/*rules*.y*ml' | sort -u)
if [ -n "$rules" ]; then
	promtool=$(command -v promtool || echo "$cache/prometheus/usr/bin/promtool")
	if [ ! -x "$promtool" ] && command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
		(cd "$out" && apt-get download prometheus >/dev/null 2>&1 && dpkg -x prometheus_*.deb "$cache/prometheus") || true
	fi
	if [ -x "$promtool" ]; then
		# shellcheck disable=SC2086 # a list
		"$promtool" check rules $rules
	else
		missing "no promtool (Debian's prometheus): $rules"
	fi
fi

if [ -x "$python" ]; then
	"$python" -m yamllint --strict -c .ci/yamllint.yaml $(git ls-files 'deploy/*.yaml' 'deploy/*.yml' | grep -v '/templates/')
fi
