#!/usr/bin/env bash
# One shard of a sweep, as a task of scripts/cluster's job array; sbatch copies this file away from
# its folder, so it sources nothing. cluster_task.sh BASED_BENCH FOLDER SHARDS [OPTION...]
#
# Leaves in FOLDER the shard's rows, I.json, and once it has ended by itself the exit status,
# I.status. An earlier attempt's rows are kept.
set -euo pipefail
bench=$1 folder=$2 shards=$3 shard=$SLURM_ARRAY_TASK_ID
shift 3
[[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
out=$folder/$shard.json resume=()
[[ ! -f $out ]] || resume=("--resume=$out")
status=0
"$bench" "$@" "--shard=$shard/$shards" ${resume[@]+"${resume[@]}"} "--benchmark_out=$out" || status=$?
echo "$status" >"$folder/$shard.status"
exit "$status"
