# Several GPUs of one machine: a sweep's shards side by side, a process a GPU.
# shellcheck shell=bash
# shellcheck source=scripts/lib/sweep.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/sweep.sh"

# gpu_list GIVEN: sets `gpus`, an array of indices: of 'all' every GPU that this process may use,
# otherwise those of the list GIVEN. Ends where they are not here, or of several kinds: each kind
# would measure other rows than the rest.
gpu_list() {
  local listed given=$1 index kinds there
  gpus=()
  listed=$(nvidia-smi --query-gpu=index,name --format=csv,noheader) ||
    die "--gpus: nvidia-smi shows no GPU"
  [[ $given != all || -z ${CUDA_VISIBLE_DEVICES:-} ]] || given=$CUDA_VISIBLE_DEVICES
  if [[ $given == all ]]; then
    mapfile -t gpus < <(cut -d , -f 1 <<<"$listed")
  else
    IFS=, read -r -a gpus <<<"$given"
  fi
  there=$(cut -d , -f 1 <<<"$listed" | paste -sd ,)
  for index in "${gpus[@]}"; do
    [[ ,$there, == *",$index,"* ]] ||
      die_usage "--gpus: '$index' is no GPU of this machine, which has: $there"
  done
  [[ $(printf '%s\n' "${gpus[@]}" | sort -u | wc -l) -eq ${#gpus[@]} ]] ||
    die_usage "--gpus: '$given' names a GPU twice"
  kinds=$(for index in "${gpus[@]}"; do sed -n "s/^$index, //p" <<<"$listed"; done | sort -u)
  [[ $kinds != *$'\n'* ]] ||
    die_usage "--gpus: these are of several kinds, name those of one: ${kinds//$'\n'/, }"
}

# end_gpus RESUMING: ends what run_sweeps_side_by_side runs, and this script.
end_gpus() {
  trap '' INT TERM
  local group
  for group in $(jobs -p); do kill -TERM -- "-$group" 2>/dev/null || true; done
  wait
  say interrupted
  say "the rows measured so far are kept; go on with: $1"
  exit 130
}

# run_sweeps_side_by_side FOLDER RESULTS RESUMING [OPTION...]: as run_sweeps, with a shard of each
# sweep on each of `gpus` at the same time; FOLDER gets a file of rows and a log a GPU, RESULTS all
# rows, of which each says in its context how many GPUs ran.
run_sweeps_side_by_side() {
  local folder=$1 results=$2 resuming=$3 count=${#gpus[@]} i sweeps pids=() failed=0 ended files
  shift 3
  sweeps=$(cat)
  say "$count GPUs side by side: ${gpus[*]}; progress: tail -f $folder/gpu-*.log"
  say "they may share power and cooling: each row's context has gpus_side_by_side=$count"
  trap 'end_gpus "$resuming"' INT TERM
  set -m  # a process group a GPU, which a signal to this script ends whole
  for ((i = 1; i <= count; i++)); do
    (
      set +m
      export CUDA_VISIBLE_DEVICES=${gpus[i - 1]}
      run_sweeps "$folder/gpu-$i.json" "$resuming" "--shard=$i/$count" \
        "--benchmark_context=gpus_side_by_side=$count" "$@" <<<"$sweeps"
    ) >>"$folder/gpu-$i.log" 2>&1 &
    pids+=($!)
  done
  set +m
  for i in "${!pids[@]}"; do
    ended=0
    wait "${pids[i]}" || ended=$?
    [[ $ended -ne 0 ]] || continue
    say "GPU ${gpus[i]}: status $ended, see $folder/gpu-$((i + 1)).log, which ends with:"
    tail -n 3 "$folder/gpu-$((i + 1)).log" >&2
    [[ $ended -ne $exit_usage ]] || exit "$exit_usage"
    failed=$exit_failed
  done
  trap - INT TERM
  mapfile -t files < <(compgen -G "$folder/gpu-*.json" | sort -V)
  [[ ${#files[@]} -gt 0 ]] || die "no results were written"
  (cd "$root" && "$python" -m plots merge "${files[@]}" --out "$results" >&2) ||
    die "the GPUs' results do not merge: see above"
  return "$failed"
}
