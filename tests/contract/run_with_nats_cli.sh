#!/bin/sh
# Registers a workflow, starts a run of it and reads it, with the stock `nats` command line and nothing of ours.
#
#     NATS_URL=nats://127.0.0.1:4222 sh tests/contract/run_with_nats_cli.sh
set -eu
site=${1:-local}

ask() { nats request --raw --timeout 5s "dagnats.$site.api.$1" "$2"; }

ask wf.register '{"definition": {"name": "by-hand", "steps": [{"id": "only", "task": "by.hand"}]}}'
echo
started=$(ask wf.start '{"workflow": "by-hand", "input": {"who": "nats"}, "request_id": "one"}')
echo "$started"
run_id=$(echo "$started" | sed 's/.*"run_id":"\([^"]*\)".*/\1/')
ask run.get "{\"run_id\": \"$run_id\"}"
echo
