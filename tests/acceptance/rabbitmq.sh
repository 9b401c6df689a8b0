#!/bin/sh
# The promises with RabbitMQ as the broker: installs Debian's rabbitmq-server where it may, then plays
# every fault that does not need Redis. The server runs in a directory and on ports of its own.
set -eu
cd "$(dirname "$0")/../.."

if ! PATH="$PATH:/usr/sbin" command -v rabbitmq-server >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rabbitmq-server >/dev/null
    else
        echo "SKIPPED, NOTHING WAS TESTED ON RABBITMQ: it is not installed, and only root may install it here." >&2
        exit 0
    fi
fi
exec .venv/bin/python -m tests.chaos --broker rabbitmq "${@:---quick}"
