#!/usr/bin/env bash
# The tests with the oldest packages that setup.cfg promises, in an environment of their own (some GB of downloads).
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
python="$folder/environment/bin/python"
"$python" -m pip install --quiet uv
"$python" -m uv pip install --quiet --python "$python" --resolution lowest-direct --editable '.[test]'
"$python" -m pytest -q "$@"
