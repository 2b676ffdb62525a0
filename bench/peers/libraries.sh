#!/bin/sh
# Puts the event store libraries that scenarios are measured against into .bench/: no part of the product.
set -eu
cd "$(dirname "$0")/../.."

.venv/bin/uv venv --quiet --allow-existing .bench/eventsourcing
.venv/bin/uv pip install --quiet --python .bench/eventsourcing --requirement bench/peers/requirements.txt
echo 'eventsourcing: installed'

if command -v npm >/dev/null; then
  mkdir -p .bench/emmett
  cp bench/peers/package.json .bench/emmett/
  npm install --prefix .bench/emmett --silent --no-audit --no-fund --no-package-lock
  echo 'emmett: installed'
else
  echo 'emmett: needs Node.js with npm, and there is none here' >&2
fi
