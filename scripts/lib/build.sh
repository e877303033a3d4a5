# Configuring and building, with CUDA where there is a compiler for it.
# shellcheck shell=bash
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

source_folder=$root  # what is built: the checkout, or build_revision's

# The build folder of a preset, as in CMakePresets.json.
build_folder() {
  [[ $1 == default ]] && echo "$source_folder/build" || echo "$source_folder/build-$1"
}

# The nvcc to build with; nothing where there is none. The wheels of --install-cuda come first: who
# installed them wants them.
find_nvcc() {
  local candidate
  for candidate in "$([[ -x $python ]] && cuda_wheels_home)/bin/nvcc" "$(command -v nvcc || true)" \
    "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc"; do
    [[ -x $candidate ]] && echo "$candidate" && break
  done
  return 0
}

cached() { sed -n "s/^$2:[A-Z]*=//p" "$1/CMakeCache.txt" 2>/dev/null || true; }

# configure PRESET: once, and again when a CUDA compiler has come or changed. CMake itself notes
# changes of its files.
configure() {
  local preset=$1 folder nvcc options=()
  folder=$(build_folder "$preset")
  nvcc=$(find_nvcc)
  if [[ -n $nvcc ]]; then
    options+=("-DCMAKE_CUDA_COMPILER=$nvcc" "-DCUDAToolkit_ROOT=$(dirname "$(dirname "$nvcc")")")
  else
    say "no nvcc: building the CPU implementations alone (scripts/bench --install-cuda brings one)"
  fi
  # A checkout that an earlier call named stays.
  : "${thunderkittens:=$(cached "$folder" BASED_THUNDERKITTENS)}"
  [[ -z $thunderkittens ]] || options+=("-DBASED_THUNDERKITTENS=$thunderkittens")
  [[ -f $folder/build.ninja && $(cached "$folder" CMAKE_CUDA_COMPILER) == "${nvcc:-NOTFOUND}" &&
    $(cached "$folder" BASED_THUNDERKITTENS) == "$thunderkittens" ]] &&
    return
  if have ccache; then
    options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)
  fi
  run_child env -C "$source_folder" cmake --fresh --preset "$preset" "${options[@]}" >&2 ||
    die "configuring failed: the lines above say why"
}

# build PRESET [TARGET...]
build() {
  local preset=$1
  shift
  run_child env -C "$source_folder" cmake --build --preset "$preset" --parallel "$(nproc)" \
    ${1:+--target "$@"} >&2 ||
    die "building failed: the lines above say why"
}

# A GPU that the driver shows.
gpu_present() { have nvidia-smi && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

# Whether the binaries of folder $1 have CUDA rows: its cache knows; where there are binaries alone,
# based_bench does, and says why not.
built_with_cuda() {
  if [[ -f $1/CMakeCache.txt ]]; then
    [[ $(cached "$1" CMAKE_CUDA_COMPILER) == /* ]]
  else
    "$1/based_bench" --device=cuda --benchmark_list_tests >/dev/null
  fi
}

# Lets the binaries of folder $1 find the libraries of the toolkit that built them: cuBLAS, for the
# GEMM ceiling, is loaded at run time.
use_cuda_libraries() {
  local compiler toolkit
  compiler=$(cached "$1" CMAKE_CUDA_COMPILER)
  [[ $compiler == /* ]] || return 0
  toolkit=$(dirname "$(dirname "$compiler")")
  [[ ! -d $toolkit/lib64 ]] ||
    export LD_LIBRARY_PATH=$toolkit/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

# The value $1 of --build-dir as an absolute path.
build_dir_option() {
  [[ -x $1/based_bench ]] || die_usage "--build-dir: '$1' holds no based_bench"
  (cd "$1" && pwd)
}

# The value $1 of --thunderkittens as an absolute path.
thunderkittens_option() {
  [[ -f $1/kernels/based/linear_attn.cu ]] ||
    die_usage "--thunderkittens: '$1' is no checkout of ThunderKittens:" \
      "it has no kernels/based/linear_attn.cu"
  (cd "$1" && pwd)
}
# Ends where there is such a checkout and a folder $1, of --build-dir, too.
refuse_thunderkittens_with() {
  [[ -z $1 || -z ${thunderkittens:-} ]] ||
    die_usage "--build-dir builds nothing: --thunderkittens does not go with it"
}

# Ends where neither a folder $1, of --build-dir, nor a compiler can bring CUDA rows.
require_cuda_build() {
  [[ -n $1 || -n $(find_nvcc) ]] ||
    die "no nvcc, and so no CUDA rows: scripts/bench --install-cuda brings one"
}

# ready_build DIR [TARGET...]: sets `folder`, where the binaries are. DIR, of --build-dir, is taken
# as it is: nothing is set up, and where there is no .venv the Python on PATH serves. Without DIR
# ('') build/ is set up and built.
ready_build() {
  folder=$1
  shift
  if [[ -n $folder ]]; then
    [[ -x $python ]] || python=$(system_python)
    [[ -n $python ]] || die "no python3 of version $python_minimum or later on PATH"
  else
    ensure_build_tools
    configure default
    build default "$@"
    folder=$(build_folder default)
  fi
  use_cuda_libraries "$folder"
}

# build_revision COMMIT: builds based_bench of a commit, checked out in build-compare/, or where '' of
# the working tree. Prints the folder of the binaries, and LD_LIBRARY_PATH for them.
build_revision() {
  if [[ -n $1 ]]; then
    source_folder=$root/build-compare/${1:0:12}
    git -C "$root" worktree prune
    [[ -e $source_folder/.git ]] ||
      git -C "$root" worktree add --quiet --detach "$source_folder" "$1" >&2 ||
      die "git cannot check out $1 in $source_folder"
  fi
  ready_build '' based_bench
  printf '%s\n' "$folder" "${LD_LIBRARY_PATH:-}"
}

# implementations_of BENCH [KEY=VALUE...]: the implementations that based_bench holds, a line with
# operation and name each (implementations.py).
implementations_of() {
  "$1" --describe | "$python" "$root/scripts/lib/implementations.py" "${@:2}"
}
