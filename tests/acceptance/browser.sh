#!/bin/sh
# The dashboard in a real browser: installs Debian's chromium and its driver where it may, fetches axe-core from npm
# into .venv, then drives the page. POINTSMAN_SCREENSHOTS=docs/images also takes the pictures of the documentation.
set -eu
cd "$(dirname "$0")/../.."

if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            chromium chromium-driver fonts-dejavu-core >/dev/null
    else
        echo "SKIPPED, NO BROWSER LOOKED AT THE DASHBOARD: chromium is not installed, and only root may install it here." >&2
        exit 0
    fi
fi
if [ ! -f .venv/axe/package/axe.min.js ] && command -v npm >/dev/null; then
    mkdir -p .venv/axe
    (cd .venv/axe && npm pack --silent axe-core@4 >/dev/null && tar -xzf axe-core-*.tgz package/axe.min.js) ||
        echo "axe-core could not be fetched: accessibility is not checked" >&2
fi
exec .venv/bin/python -m pytest tests/acceptance/test_dashboard.py "$@"
