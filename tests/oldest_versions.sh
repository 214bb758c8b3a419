#!/usr/bin/env bash
# The encoder's tests with the oldest open_clip and timm that setup.cfg promises, laid over the packages of $PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
oldest=$(sed -n 's/^ *\(open_clip_torch\|timm\)>=\([0-9.]*\),.*/\1==\2/p' setup.cfg)
"${PYTHON:-python}" -m pip install -q --no-deps --target "$folder" $oldest
PYTHONPATH="$folder" "${PYTHON:-python}" -m pytest -q tests/declip/models "$@"
