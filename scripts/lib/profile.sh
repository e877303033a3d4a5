# What profile_ncu and profile_nsys share.
# shellcheck shell=bash
# shellcheck source=scripts/lib/build.sh
source "$(dirname "${BASH_SOURCE[0]}")/build.sh"

# split_arguments FILTER [--build-dir DIR] [--out DIR] [profiler option...] [-- based_bench
# option...]: sets filter, build_dir, out, profiler_options and bench_options. Calls the script's
# usage() for --help.
# shellcheck disable=SC2034
split_arguments() {
  [[ $# -gt 0 ]] || die_usage "want a FILTER"
  case $1 in
    --help | -h) usage && exit ;;
    '' | -*) die_usage "the FILTER comes first, got '$1'" ;;
  esac
  filter=$1 build_dir='' out='' profiler_options=() bench_options=()
  shift
  while [[ $# -gt 0 && $1 != -- ]]; do
    case $1 in
      --build-dir)
        require_value "$@"
        build_dir=$(build_dir_option "$2")
        shift
        ;;
      --out)
        require_value "$@"
        require_writable "$2"
        out=$(cd "$2" && pwd)
        [[ -z $(compgen -G "$out/report*-rep") ]] ||
          die_usage "--out: '$2' holds a report already, name another folder"
        shift
        ;;
      *) profiler_options+=("$1") ;;
    esac
    shift
  done
  [[ $# -eq 0 ]] || bench_options=("${@:2}")
}

# require_profiler PROGRAM PACKAGE: on PATH or in the toolkit's folder, or says what to install.
require_profiler() {
  have "$1" && return
  [[ -x ${CUDA_HOME:-/usr/local/cuda}/bin/$1 ]] ||
    die "$1 is not on PATH: it comes with the CUDA toolkit, or alone as package $2"
  PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
}

# Sets `bench`, the binary, built where need be.
ready_bench() {
  local folder
  require_cuda_build "$build_dir"
  ready_build "$build_dir" based_bench
  bench=$folder/based_bench
}

# Sets `rows`, the names of the CUDA rows that the filter and the caller's shapes select.
select_rows() {
  local listed
  listed=$("$bench" --device=cuda "--benchmark_filter=$filter" --benchmark_list_tests \
    ${bench_options[@]+"${bench_options[@]}"}) ||
    die "based_bench lists no row to profile: see above"
  mapfile -t rows < <(printf '%s\n' "$listed" | sed 's|/manual_time.*||' | sort -u)
  [[ ${#rows[@]} -gt 0 && -n ${rows[0]} ]] || die "filter '$filter' matches no CUDA row"
  say "profiling ${#rows[@]} rows:"
  printf '  %s\n' "${rows[@]}" >&2
}

# new_report_folder TOOL: that of --out, or makes one; prints it.
new_report_folder() {
  local folder=$out
  if [[ -z $folder ]]; then
    folder=$root/results/$(utc_stamp)-$(uname -n)-$1
    require_writable "$folder"
  fi
  echo "$folder"
}
