#!/bin/sh
# All that a machine with a GPU has to show, in pieces; benchmarks/gpu.py says which, docs/results/gpu.md what came out.
#
#     PYTHON=.venv/bin/python benchmarks/gpu.sh prepare    with a network: what is missing there, into build/gpu
#     benchmarks/gpu.sh run --device cuda                  there, without one; again until all is done
#     PYTHON=.venv/bin/python benchmarks/gpu.sh table      writes the page from build/gpu/results.json
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if [ "${1:-}" = run ] && [ -f build/gpu/site.tar.xz ]; then
    site=${TMPDIR:-/tmp}/wsiseg-gpu-site
    [ -d "$site" ] || "$python" -m tarfile -e build/gpu/site.tar.xz "$site"
    PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "$python" benchmarks/gpu.py "$@"
