#!/bin/bash
# make-venv.sh DIR: a virtual environment with tempest and its plugins, pinned in requirements.txt.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?directory}
py=${PYTHON:-python3}
[ -x "$dir/bin/python" ] || "$py" -m venv "$dir"
"$dir/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
"$dir/bin/pip" check
"$dir/bin/tempest" --version
