#!/bin/sh
# Pointsman on several hosts: network namespaces with links between them, and faults of these links, hosts and servers.
# Everything lives in private namespaces (network, mounts, processes), which the kernel removes together with all
# processes in them, however this script ends. Needs root, iproute2, iptables, util-linux; installs Debian's packages
# where they are missing. Arguments: the names of faults; --list names them.
set -eu
cd "$(dirname "$0")/../.."

skip() { echo "SKIPPED, NOTHING WAS TESTED ON SEVERAL HOSTS: $1" >&2; exit 0; }

[ "$(id -u)" = 0 ] || skip "network namespaces need root."
PATH="$PATH:/usr/sbin:/sbin"
for each in iptables:iptables ip:iproute2 pgbouncer:pgbouncer rabbitmq-server:rabbitmq-server; do
    command -v "${each%%:*}" >/dev/null && continue
    command -v apt-get >/dev/null || skip "${each%%:*} is not installed."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${each##*:}" >/dev/null
    # Debian starts what it installs; ours is started on its host.
    systemctl disable --now "${each##*:}" >/dev/null 2>&1 || true
done
unshare --net --mount --pid --fork true 2>/dev/null || skip "this machine lets nobody make namespaces."

python=${PYTHON:-.venv/bin/python}
work=$(mktemp -d "${TMPDIR:-/tmp}/pm-cluster-XXXXXXXX")
chmod 711 "$work"
child=
cleanup() {
    [ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
    wait 2>/dev/null || true
    [ -n "${CLUSTER_KEEP:-}" ] || rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# No name server can be reached from the hosts, and RabbitMQ looks up the machine's name for each connection: without
# one to ask that ends at once, instead of after five seconds.
echo "# none" >"$work/resolv.conf"
mkdir -p /run/netns
unshare --net --mount --pid --fork --kill-child --mount-proc \
    sh -c 'mount -t tmpfs tmpfs /run/netns && mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@"' "$work" \
    "$python" -m tests.cluster --work "$work" "$@" &
child=$!
wait "$child"
