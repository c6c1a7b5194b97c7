#!/bin/sh
# Installs what the program and its tests need: system libraries from the distribution's package manager, Python packages
# into .venv. Pinned; does nothing, and says nothing, when all is there.
# Usage: tools/setup.sh demo|test
set -eu
cd "$(dirname "$0")/.."
what=${1:-demo}

missing=""
for package in liblmdb-dev libsqlite3-dev libzstd-dev libpq-dev zlib1g-dev pkg-config git; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
# Any of the three; a release build is linked with it.
dpkg -l 'libcurl4-*-dev' 2>/dev/null | grep -q '^ii' || missing="$missing libcurl4-openssl-dev"
if [ "$what" = test ]; then
    dpkg -s prometheus >/dev/null 2>&1 || missing="$missing prometheus" # for promtool
    dpkg -s postgresql >/dev/null 2>&1 || missing="$missing postgresql" # the tests start one of their own
fi
if [ -n "$missing" ]; then
    root=""
    if [ "$(id -u)" != 0 ]; then
        root="sudo"
        command -v sudo >/dev/null || { echo "setup: install these packages as root:$missing" >&2; exit 1; }
    fi
    echo "setup: installing$missing"
    $root apt-get update -qq
    # policy-rc.d would be needed to keep services from starting; promtool is all that is used of prometheus.
    DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

python=${PYTHON:-python3}
if [ ! -x .venv/bin/python ]; then
    echo "setup: making .venv"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "setup: Python 3.11 or newer is needed ($python is older); set PYTHON" >&2; exit 1; }
    "$python" -m venv .venv
fi
lock=requirements/$what.txt
stamp=.venv/.installed-$what
if [ ! -f "$stamp" ] || ! cmp -s "$lock" "$stamp"; then
    echo "setup: installing Python packages of $lock (some minutes the first time)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement "$lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable sdk/python 2>/dev/null ||
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable sdk/python
    cp "$lock" "$stamp"
fi
