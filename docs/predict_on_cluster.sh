#!/bin/bash
# Scheduler, workers and one prediction: bash predict_on_cluster.sh MODEL SOURCE OUT [more words for tomoseg predict]
# Under SLURM each task of the allocation becomes a worker; elsewhere WORKERS processes (2) on this machine.
# They talk through TLS with a certificate of this run, kept beside OUT where only you can read it: all nodes must see it.
set -euo pipefail
model=$1 source=$2 out=$3
shift 3
threads=${SLURM_CPUS_PER_TASK:-1}
tasks=$((threads > 1 ? 3 : 2))      # one more than compute at a time: it reads and writes
host=$([ -n "${SLURM_JOB_ID:-}" ] && hostname -f || echo 127.0.0.1)
folder=$(mktemp -d "$(dirname "$(realpath -m "$out")")/.tomoseg-run.XXXXXX")
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$folder"' EXIT

openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=tomoseg -keyout "$folder/key.pem" -out "$folder/cert.pem" \
  2>/dev/null
export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True DASK_DISTRIBUTED__COMM__TLS__CA_FILE=$folder/cert.pem
for role in SCHEDULER WORKER CLIENT; do
  export "DASK_DISTRIBUTED__COMM__TLS__${role}__CERT=$folder/cert.pem" "DASK_DISTRIBUTED__COMM__TLS__${role}__KEY=$folder/key.pem"
done

dask scheduler --host "$host" --protocol tls --port 0 --no-dashboard --scheduler-file "$folder/scheduler.json" &
scheduler=$!
until [ -s "$folder/scheduler.json" ]; do
  kill -0 "$scheduler" 2>/dev/null || { echo "the Dask scheduler did not start" >&2; exit 1; }
  sleep 0.2
done
address=$(python -c "import json, sys; print(json.load(open(sys.argv[1]))['address'])" "$folder/scheduler.json")

if [ -n "${SLURM_JOB_ID:-}" ]; then
  srun dask worker "$address" --nthreads "$tasks" --no-dashboard --no-nanny &
else
  dask worker "$address" --nworkers "${WORKERS:-2}" --nthreads "$tasks" --no-dashboard &
fi
tomoseg predict "$model" "$source" -o "$out" --scheduler "$address" --threads "$threads" "$@"
