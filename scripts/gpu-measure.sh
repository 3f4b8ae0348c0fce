#!/usr/bin/env bash
# Measure on a GPU, Ray alone beside ours: at most six minutes, without a network, into benchmarks/gpu-results.json and
# docs/performance.md. It runs `make test-gpu` as well.
#
#   scripts/gpu-measure.sh         a machine with a GPU, and .venv-gpu (scripts/gpu-environment.sh makes it)
#   scripts/gpu-measure.sh --dry   any machine with .venv: a made-up GPU, the engine on the CPU, a file of its own
#
# LIMIT_S=… is how long it may take. On a small machine a dry run needs more than six minutes: LIMIT_S=1200.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
limit_s=${LIMIT_S:-360}
python=.venv-gpu/bin/python
[[ -x $python ]] || python=.venv/bin/python
export PYTHONPATH="$PWD:$PWD/testing${PYTHONPATH:+:$PYTHONPATH}"
exec timeout --kill-after=5 "$limit_s" "$python" -m benchmarks.on_gpu --limit-s "$((limit_s - 10))" "$@"
