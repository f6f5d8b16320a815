#!/bin/bash
# Scheduler, workers and one prediction: bash predict_on_cluster.sh MODEL SOURCE OUT [more words for tomoseg predict]
# Under SLURM each task of the allocation becomes a worker; elsewhere WORKERS processes (2) on this machine.
set -euo pipefail
model=$1 source=$2 out=$3
shift 3
threads=${SLURM_CPUS_PER_TASK:-1}
host=$([ -n "${SLURM_JOB_ID:-}" ] && hostname -f || echo 127.0.0.1)
address_file=$(mktemp -d)/scheduler.json
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$(dirname "$address_file")"' EXIT

dask scheduler --host "$host" --port 0 --no-dashboard --scheduler-file "$address_file" &
until [ -s "$address_file" ]; do sleep 0.2; done
address=$(python -c "import json, sys; print(json.load(open(sys.argv[1]))['address'])" "$address_file")

if [ -n "${SLURM_JOB_ID:-}" ]; then
  srun dask worker "$address" --nthreads 2 --no-dashboard --no-nanny &
else
  dask worker "$address" --nworkers "${WORKERS:-2}" --nthreads 2 --no-dashboard &
fi
tomoseg predict "$model" "$source" -o "$out" --scheduler "$address" --threads "$threads" "$@"
