#!/bin/bash
# Starts docker-compose.yml whole, as it is committed, and uses it: build, up, a batch over HTTP, restarts under load, a
# broker that is gone, down, up again. Prints a table of times; exits with 1 where something is not as it should be.
#
#   tests/containers/run.sh             # with Docker where its daemon answers, else as root on Debian with mmdebstrap
#   tests/containers/run.sh --twice     # also builds the image a second time, and compares the layers
#
# Without Docker it makes a Debian 13 root with podman, in mount and network namespaces of its own, in
# ${XDG_CACHE_HOME:-~/.cache}/pointsman-containers (2 GB; the second run takes it as it is). Without a registry it makes
# stand-ins of the base images from Debian's packages: they show that our files work, not that those images do.
set -euo pipefail
cd "$(dirname "$0")/../.."
CHECKOUT=$PWD
WORK=${POINTSMAN_CONTAINERS:-${XDG_CACHE_HOME:-$HOME/.cache}/pointsman-containers}
IMAGES=(python:3.13-slim postgres:18 redis:8)
mkdir -p "$WORK/src" "$WORK/store"
WORK=$(realpath "$WORK")
OUTSIDE=

say() { printf '%s\n' "$*" >&2; }
started=$(date +%s)
lap() { printf '%-60s %6d s\n' "$1" $(($(date +%s) - started)) >>"$WORK/times"; started=$(date +%s); }
: >"$WORK/times"

# ── The checkout as a copy, so that nothing is written into it ───────────────────────────────────────────────────────
rm -rf "$WORK/src/app"
mkdir "$WORK/src/app"
# Always with the same times: the build's cache knows a file by them, too. A deleted file is still listed.
{ git ls-files -co --exclude-standard -z | tar cf - --null --ignore-failed-read --mtime=@0 -T - 2>/dev/null || true; } |
  tar xf - -C "$WORK/src/app"
"$WORK/src/app/deploy/make_secrets"

# ── The engine ───────────────────────────────────────────────────────────────────────────────────────────────────────
if docker info >/dev/null 2>&1; then
  inside() { (cd "$WORK/src/app" && "$@"); }
  build() { inside docker build -q "$@"; }
  COMPOSE="docker compose --project-directory $WORK/src/app -f $WORK/src/app/docker-compose.yml"
  NETWORK="docker network"
  ON_ITS_NETWORK=()
else
  ROOT=$WORK/trixie
  if [ ! -e "$ROOT/usr/bin/podman" ]; then
    command -v mmdebstrap >/dev/null || { say "run.sh needs Docker, or mmdebstrap: apt-get install mmdebstrap"; exit 2; }
    say "making a Debian root with podman (minutes, once)"
    mmdebstrap --quiet --variant=minbase trixie "$ROOT" \
      --include=podman,crun,netavark,aardvark-dns,catatonit,docker-compose,docker-cli,nftables,iptables,iproute2,ca-certificates
    # Without CAP_SYS_RESOURCE no limit can be raised, and podman's defaults would; cgroups may be of the older kind.
    printf '%s\n' '[containers]' 'default_ulimits = ["nofile=20000:20000","nproc=32768:32768"]' 'cgroups = "disabled"' \
      '[engine]' 'cgroup_manager = "cgroupfs"' >"$ROOT/etc/containers/containers.conf"
    printf '%s\n' '[storage]' 'driver = "overlay"' 'graphroot = "/store/graph"' 'runroot = "/run/graph"' \
      >"$ROOT/etc/containers/storage.conf"
    lap "engine: a Debian root with podman"
  fi
  # With processes of its own, too: what still runs in the box ends with it. An engine or a container that a run left
  # behind would get in the way of the next one.
  # shellcheck disable=SC2016
  setsid unshare -m -n -p --fork --kill-child env ROOT="$ROOT" WORK="$WORK" sh -ec '
    mount --bind "$ROOT" "$ROOT"
    mkdir -p "$ROOT/store" "$ROOT/src" "$ROOT/oldroot"
    mount --bind "$WORK/store" "$ROOT/store"
    mount --bind "$WORK/src" "$ROOT/src"
    mount -t proc proc "$ROOT/proc"
    mount --rbind /sys "$ROOT/sys"; mount --make-rslave "$ROOT/sys"
    # crun refuses both kinds of cgroups at once.
    umount "$ROOT/sys/fs/cgroup/unified" 2>/dev/null || true
    mount --rbind /dev "$ROOT/dev"; mount --make-rslave "$ROOT/dev"
    for each in dev/shm run tmp; do mount -t tmpfs tmpfs "$ROOT/$each"; done
    cp /etc/resolv.conf "$ROOT/etc/resolv.conf"
    ip link set lo up
    cd "$ROOT"; pivot_root . oldroot; umount -l /oldroot
    exec chroot . catatonit -P' </dev/null >"$WORK/box.log" 2>&1 &
  OUTSIDE=$!
  for _ in $(seq 50); do
    BOX=$(ps -o pid= --ppid "$OUTSIDE" | tr -d " " || true)
    [ "$(readlink "/proc/$BOX/exe" 2>/dev/null)" = /usr/bin/catatonit ] && break
    sleep 0.2
  done
  ENTER="nsenter -t $BOX -m -p --root=/proc/$BOX/root --wd=/proc/$BOX/root/src/app"
  ENVIRON="/usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DISABLE_HC_SYSTEMD=true
    PODMAN_IGNORE_CGROUPSV1_WARNING=1 DOCKER_HOST=unix:///run/podman.sock"
  inside() { $ENTER -n -- $ENVIRON "$@"; }
  # Packages come over this machine's network; containers run on one of their own.
  build() { $ENTER -- $ENVIRON podman build -q --isolation=chroot --network=host "$@"; }
  COMPOSE="$(echo $ENTER -n -- $ENVIRON) docker compose"
  NETWORK="$(echo $ENTER -n -- $ENVIRON) podman network"
  ON_ITS_NETWORK=(nsenter -t "$BOX" -n --)
  inside podman system service --time=0 unix:///run/podman.sock >"$WORK/podman.log" 2>&1 &
  # podman leaves health checks to systemd's timers, which are not there. Those of thirteen containers keep a core busy:
  # a container that is healthy is checked seldom.
  inside sh -c 'round=0; while sleep 2; do round=$((round + 1))
    if [ $((round % 30)) = 0 ]; then due=$(podman ps -q)
    else due=$(podman ps -q --filter health=starting --filter health=unhealthy); fi
    for each in $due; do podman healthcheck run "$each" & done; wait; done' >/dev/null 2>&1 &
fi

finish() {
  status=$?
  # shellcheck disable=SC2086
  [ "$status" -eq 0 ] || { $COMPOSE ps -a; $COMPOSE logs --tail 100; } >"$WORK/failure.log" 2>&1 || true
  $COMPOSE down -v -t 5 >/dev/null 2>&1 || true
  [ -z "$OUTSIDE" ] || kill -KILL "$OUTSIDE" 2>/dev/null || true
  exit "$status"
}
trap finish EXIT INT TERM

# ── The base images ──────────────────────────────────────────────────────────────────────────────────────────────────
root() { # root NAME SUITE PACKAGES: a Debian root as an image, without what the official ones lack, too
  [ -e "$WORK/$1.tar" ] || mmdebstrap --quiet --variant=minbase --include="$3" --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$2" "$WORK/$1.tar"
  cp "$WORK/$1.tar" "$WORK/src/root.tar"
  inside podman import -q ../root.tar "localhost/debian-$1:$2" >/dev/null
  rm "$WORK/src/root.tar"
}
CLI=$([ -n "${BOX:-}" ] && echo podman || echo docker)
for image in "${IMAGES[@]}"; do
  inside "$CLI" image inspect "docker.io/library/$image" >/dev/null 2>&1 && continue
  inside timeout 60 "$CLI" pull -q "docker.io/library/$image" >/dev/null 2>&1 && continue
  [ "$CLI" = podman ] || { say "run.sh: $image can be pulled from nowhere"; exit 2; }
  say "no registry in reach: making a stand-in for $image"
  case $image in
    python*) root python trixie python3,python3-venv,ca-certificates,netbase,tzdata ;;
    postgres*) root postgres forky postgresql-18 ;;
    redis*) root redis trixie redis-server ;;
  esac
  cp /etc/ssl/certs/ca-certificates.crt "$WORK/src/app/tests/containers/images/"
  build --pull=never -t "docker.io/library/$image" -f "tests/containers/images/${image%%:*}.Containerfile" \
    tests/containers/images >/dev/null
  rm "$WORK/src/app/tests/containers/images/ca-certificates.crt"
done
lap "base images"

# ── The image ────────────────────────────────────────────────────────────────────────────────────────────────────────
[ "$CLI" = podman ] && SAME=(--timestamp 0) || SAME=()
build "${SAME[@]}" -t pointsman:local . >/dev/null
lap "image built"
layers() { inside "$CLI" image inspect pointsman:local --format '{{range .RootFS.Layers}}{{println .}}{{end}}'; }
size=$(inside "$CLI" image inspect pointsman:local --format '{{.Size}}')
say "image: $((size / 1000000)) MB"
[ "$size" -le 350000000 ] || { say "run.sh: the image is larger than 350 MB"; exit 1; }
if [ "${1:-}" = --twice ]; then
  layers >"$WORK/layers.first"
  build "${SAME[@]}" --no-cache -t pointsman:local . >/dev/null
  lap "image built again, from nothing"
  layers | diff "$WORK/layers.first" - >&2 && say "both builds have the same layers" || { say "the layers differ"; exit 1; }
fi

# ── The stack ────────────────────────────────────────────────────────────────────────────────────────────────────────
# What a run that was killed has left, its volumes above all: their passwords are others.
# shellcheck disable=SC2086
$COMPOSE down -v -t 5 >/dev/null 2>&1 || true
"${ON_ITS_NETWORK[@]}" env COMPOSE="$COMPOSE" NETWORK="$NETWORK" SECRETS="$WORK/src/app/secrets" TIMES="$WORK/times" \
  python3 "$CHECKOUT/tests/containers/check_stack.py"
