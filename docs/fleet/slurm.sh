#!/usr/bin/env bash
# One task for each model, on a node of one type at a time: sbatch --array=0-$((MODELS - 1)) slurm.sh FILE
# FILE has a model in each line; AUTOBACKEND_CACHE names the shared cache. Run it once for each type (--constraint).
#SBATCH --job-name=autobackend
#SBATCH --exclusive
#SBATCH --constraint=h100
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@60
set -euo pipefail

: "${AUTOBACKEND_CACHE:?name the shared cache: postgresql://USER@HOST/DATABASE, or a file on a shared disk}"
models=${1:?name the file with a model in each line}
mapfile -t lines <"$models"
number=${SLURM_ARRAY_TASK_ID:?submit it as an array: sbatch --array=0-$((${#lines[@]} - 1)) "$0" "$models"}
model=${lines[$number]:?"$models has no line $((number + 1))"}

# A task that is stopped early, or put back into the queue, goes on from what was measured.
exec autobackend calibrate "$model" --budget 6600
