# Configuring and building, with CUDA where there is a compiler for it.
# shellcheck shell=bash
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# The build folder of a preset, as in CMakePresets.json.
build_folder() {
  [[ $1 == default ]] && echo "$root/build" || echo "$root/build-$1"
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
  [[ -f $folder/build.ninja && $(cached "$folder" CMAKE_CUDA_COMPILER) == "${nvcc:-NOTFOUND}" ]] &&
    return
  if have ccache; then
    options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)
  fi
  (cd "$root" && cmake --fresh --preset "$preset" "${options[@]}") >&2 ||
    die "configuring failed: the lines above say why"
}

# build PRESET [TARGET...]
build() {
  local preset=$1
  shift
  (cd "$root" && cmake --build --preset "$preset" --parallel "$(nproc)" ${1:+--target "$@"}) >&2 ||
    die "building failed: the lines above say why"
}

# A GPU that the driver shows.
gpu_present() { have nvidia-smi && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

built_with_cuda() { [[ $(cached "$1" CMAKE_CUDA_COMPILER) == /* ]]; }

# Lets the binaries of folder $1 find the libraries of the toolkit that built them: cuBLAS, for the
# GEMM ceiling, is loaded at run time.
use_cuda_libraries() {
  local toolkit
  toolkit=$(dirname "$(dirname "$(cached "$1" CMAKE_CUDA_COMPILER)")")
  [[ ! -d $toolkit/lib64 ]] ||
    export LD_LIBRARY_PATH=$toolkit/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}
