#!/usr/bin/env bash
# Ends the daemons that start.sh started with the same FOLDER, and their jobs.
set -uo pipefail

folder=$(realpath -m "${1:?the folder that start.sh was given}")
export SLURM_CONF=$folder/slurm.conf
scancel --user=root 2>/dev/null
for name in slurmd slurmctld munged; do
    pid=$(cat "$folder/run/$name.pid" 2>/dev/null) || continue
    kill "$pid" 2>/dev/null
    for _ in $(seq 50); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.2
    done
done
exit 0
