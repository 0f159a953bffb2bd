#!/bin/sh
# Makes what a secured fleet needs, into a folder that is no part of a repository:
#
#   deploy/keys.sh DIR [HOST…]        HOST: names and addresses of the servers (default: localhost 127.0.0.1)
#
#   DIR/ca.crt                        signs all certificates; ca.key is for making more of them, keep it elsewhere
#   DIR/server.crt, server.key        of the broker and of ClickHouse
#   DIR/ROLE.crt, ROLE.key            of each role, for TLS both ways
#   DIR/ROLE.nk                       the seed of its key at the broker
#   DIR/nats.env                      what deploy/nats/nats-server.conf reads: public keys and paths
#   DIR/spin_*.password               of ClickHouse's users, and DIR/spin-passwords.xml for its users.d
#
# A file that is there is kept, so that a role more can be added. It needs openssl, and nk (of github.com/nats-io/nkeys)
# or Go in this checkout.
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
roles="admin trainer generator evaluator recorder analyst"
days=${DAYS:-825}

[ $# -ge 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- localhost 127.0.0.1
if command -v git >/dev/null && git -C "$dir" rev-parse --is-inside-work-tree >/dev/null 2>&1 && ! git -C "$dir" check-ignore -q "$dir"; then
	echo "keys.sh: $dir is inside a git repository: choose a folder outside" >&2
	exit 2
fi
cd "$dir"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

nk=nk
if ! command -v nk >/dev/null; then
	nk=$tmp/nk
	(cd "$here/.." && go build -o "$nk" github.com/nats-io/nkeys/nk)
fi

# certificate NAME SUBJECT EXTENSIONS
certificate() {
	[ -e "$1.crt" ] && return
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -subj "$2" -out "$tmp/$1.csr" 2>/dev/null
	printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n%s\n' "$3" >"$tmp/$1.ext"
	openssl x509 -req -in "$tmp/$1.csr" -CA ca.crt -CAkey ca.key -CAserial "$tmp/serial" -CAcreateserial -days "$days" \
		-extfile "$tmp/$1.ext" -out "$1.crt" 2>/dev/null
}

if [ ! -e ca.crt ]; then
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -subj "/O=spin/CN=spin CA" -days "$days" \
		-addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign -out ca.crt 2>/dev/null
fi
names=
for host in "$@"; do
	case $host in
	*:* | [0-9]*.[0-9]*.[0-9]*.[0-9]*) names="$names,IP:$host" ;;
	*) names="$names,DNS:$host" ;;
	esac
done
certificate server "/O=spin/CN=$1" "extendedKeyUsage=serverAuth,clientAuth
subjectAltName=${names#,}"

{
	echo "SPIN_NATS_LISTEN=\"${LISTEN:-127.0.0.1:4222}\""
	echo "SPIN_NATS_STORE=\"${STORE:-$dir/jetstream}\""
	echo "SPIN_NATS_CERT=\"$dir/server.crt\""
	echo "SPIN_NATS_KEY=\"$dir/server.key\""
	echo "SPIN_NATS_CA=\"$dir/ca.crt\""
} >"$tmp/nats.env"
for role in $roles; do
	certificate "$role" "/O=spin/CN=$role" extendedKeyUsage=clientAuth
	[ -e "$role.nk" ] || "$nk" -gen user >"$role.nk"
	name=$(echo "$role" | tr '[:lower:]' '[:upper:]')
	echo "SPIN_NKEY_$name=$("$nk" -inkey "$role.nk" -pubout)" >>"$tmp/nats.env"
done
mv "$tmp/nats.env" nats.env

{
	echo '<clickhouse><users>'
	for user in spin_admin spin_recorder spin_read; do
		[ -e "$user.password" ] || openssl rand -hex 24 >"$user.password"
		hash=$(tr -d '\n' <"$user.password" | openssl dgst -sha256 -r | cut -d' ' -f1)
		echo "<$user><password_sha256_hex>$hash</password_sha256_hex></$user>"
	done
	echo '</users></clickhouse>'
} >"$tmp/passwords.xml"
mv "$tmp/passwords.xml" spin-passwords.xml
echo "$dir holds the keys of $(echo "$roles" | wc -w) roles for $*"
