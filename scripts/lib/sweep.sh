# Several sweeps of based_bench into one results file, as scripts/bench and scripts/reproduce do.
# shellcheck shell=bash
# shellcheck source=scripts/lib/build.sh
source "$(dirname "${BASH_SOURCE[0]}")/build.sh"

# build_bench DIR: from the binaries of DIR, or where '' of a build (ready_build), sets `bench`, the
# binary, and `device`, what to sweep: cpu or cuda.
# shellcheck disable=SC2034
build_bench() {
  local folder
  ready_build "$1" based_bench
  bench=$folder/based_bench
  device=cpu
  if gpu_present; then
    if built_with_cuda "$folder"; then
      device=cuda
    elif [[ -n $1 ]]; then
      say "there is a GPU, but the binaries of '$1' have no CUDA rows"
    else
      say "there is a GPU, but no nvcc to build for it: scripts/bench --install-cuda brings one"
    fi
  fi
}

# new_run FOLDER: makes it, for results that are not there yet.
new_run() {
  [[ ! -e $1/results.json ]] ||
    die_usage "'$1' has results already: --resume '$1' goes on with them"
  require_writable "$1"
}

readonly exit_crashed=3

# run_sweeps RESULTS RESUMING [OPTION...]: runs each sweep that standard input names, a line of
# options, into file RESULTS; the caller's OPTIONs replace a sweep's own. RESUMING is the command
# that goes on after an interruption. Status: 0, 1 where a row failed, or exit_crashed where
# based_bench did not end by itself.
run_sweeps() {
  local results=$1 resuming=$2 sweep options ended failed=0
  shift 2
  local kept="the rows measured so far are kept; go on with: $resuming"
  on_interrupt "$kept"
  while read -r sweep; do
    mapfile -t options < <(own_options "$sweep" "$@")
    [[ ! -f $results ]] || options+=("--resume=$results")
    ended=0
    run_child "$bench" "${options[@]}" "--benchmark_out=$results" "$@" </dev/null || ended=$?
    case $ended in
      0) ;;
      1) failed=$exit_failed ;;
      2) exit "$exit_usage" ;;  # based_bench has said what is wrong
      *)
        say "based_bench ended with status $ended"
        say "$kept"
        return "$exit_crashed"
        ;;
    esac
  done
  # A shard may be left without a row.
  [[ -f $results || " $*" == *' --shard='* ]] || die "no results were written"
  return "$failed"
}

# present FOLDER [--published] [--device] RESULTS...: summary.md, the figures and report.html in
# FOLDER, from the results files, of which the first is this run's; prints where they are. Status:
# 0, or 1 where a step failed.
present() {
  local out=$1 published=() failed=0 missing
  shift
  while [[ $1 == --* ]]; do published+=("$1") && shift; done
  printf '%-8s %s\n' results "$1"
  cd "$root"
  if ! missing=$("$python" -c 'import plots.cli' 2>&1); then
    say "nothing is drawn, the results are kept: $python lacks what plots/requirements.txt lists" \
      "(${missing##*$'\n'})"
    return "$exit_failed"
  fi
  if run_child "$python" -m plots table "$@" >"$out/.summary.md.partial"; then
    mv "$out/.summary.md.partial" "$out/summary.md"
  else
    rm -f "$out/.summary.md.partial"
    failed=$exit_failed
  fi
  run_child "$python" -m plots render ${published[@]+"${published[@]}"} "$@" --out "$out" >&2 ||
    failed=$exit_failed
  run_child "$python" -m plots report ${published[@]+"${published[@]}"} "$@" --out "$out" >&2 ||
    failed=$exit_failed
  printf '%-8s %s\n' table "$out/summary.md" figures "$out/" report "$out/report.html"
  return "$failed"
}
