#!/usr/bin/env bash
# The experiment of adaptation.md on a machine with a GPU, with one command:
#
#     pipelines/experiments/on_gpu.sh HOST MATERIAL DATA TABLES [arguments of `adaptation.py run`]
#
# HOST      reached by ssh, with rsync and Python 3.11 or later; `local` works in a folder of this machine
# MATERIAL  what pipelines/bundled_model/prepare.py has made
# DATA      the folder that holds kidney/
# TABLES    where per-slide.csv, table.md and the logs are brought
#
# It carries this checkout, the material and the biopsies (about 1 GB, once), installs wsiseg there, and goes on where an
# earlier call was stopped: call it again after any failure. WSISEG_REMOTE names the folder there; WSISEG_PYTHON a Python
# that has wsiseg's dependencies already, for machines without internet; DEVICE is cuda unless set.
set -euo pipefail
if (($# < 4)); then sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 2; fi
host=$1 material=$2 data=$3 tables=$4
shift 4
here=$(cd "$(dirname "$0")/../.." && pwd)
folder=${WSISEG_REMOTE:-wsiseg-on-gpu} device=${DEVICE:-cuda}
mkdir -p "$tables"
if [[ $host == local ]]; then
  there() { bash -c "$1"; }
  carry() { mkdir -p "$2" && cp -a --update "$1/." "$2/"; }
  fetch() { cp -a "$1" "$2"; }
else
  there() { ssh "$host" "$1"; }
  carry() { rsync -a --partial --mkpath "$1/" "$host:$2/"; }
  fetch() { rsync -a "$host:$1" "$2"; }
fi
there "mkdir -p '$folder'"
archive=$(mktemp)
trap 'rm -f "$archive"' EXIT
git -C "$here" archive --format=tar HEAD > "$archive"
there "mkdir -p '$folder/code' && tar -x -C '$folder/code'" < "$archive"
carry "$material" "$folder/material"
carry "$data/kidney" "$folder/data/kidney"
python=${WSISEG_PYTHON:-}
if [[ -z $python ]]; then
  python=.venv/bin/python
  there "cd '$folder' && { [ -x .venv/bin/python ] || python3 -m venv .venv; } && .venv/bin/pip install -q './code[train]'"
fi
status=0
there "cd '$folder' && WSISEG_TEST_DATA=\$PWD/data PYTHONPATH=code '$python' code/pipelines/experiments/adaptation.py run \
  --material material --out runs --device $device ${*@Q} > table.log" || status=$?
there "cd '$folder' && PYTHONPATH=code '$python' code/pipelines/experiments/adaptation.py table --out runs > runs/table.md"
fetch "$folder/runs/per-slide.csv" "$tables/"
fetch "$folder/runs/table.md" "$tables/"
for log in $(there "cd '$folder/runs' && ls -d */log.csv 2>/dev/null || true"); do
  fetch "$folder/runs/$log" "$tables/${log%/log.csv}.log.csv"
done
cat "$tables/table.md"
exit "$status"
