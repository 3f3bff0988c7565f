#!/bin/bash
# Runs a fixed list of tempest's tests against the cloud that OS_* names:
#   run-tempest.sh --list lists/smoke.txt --image guest.qcow2 [--overlay my.ini] [--concurrency 2] …
# The virtual environment is $TEMPEST_VENV (default: ./tempest-venv beside the caller); make-venv.sh makes it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${TEMPEST_VENV:-$PWD/tempest-venv}
[ -x "$venv/bin/stestr" ] || { echo "no virtual environment at $venv: run $here/make-venv.sh $venv" >&2; exit 2; }
export PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" "$here/tempest_harness.py" "$@" </dev/null
