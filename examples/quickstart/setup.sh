#!/bin/sh
# Installs DagNats into .venv and runs the quick start on a file of yours. Needs Python >= 3.11 with pip, nothing else.
#
#     sh examples/quickstart/setup.sh [FILE]
set -eu
FILE=${1:-README.md}
case $FILE in /*) ;; *) FILE=$PWD/$FILE ;; esac
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e .
exec .venv/bin/python examples/quickstart/run.py "$FILE"
