# What the suite needs from the machine, installed once: system packages, .venv, CUDA wheels.
# shellcheck shell=bash
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly venv=$root/.venv
python=$venv/bin/python  # what runs our Python; another only where --build-dir forgoes .venv
readonly python_minimum=3.11
readonly cmake_minimum=3.25
readonly cmake_wheel=cmake==3.31.6  # for systems whose own is older (Ubuntu 22.04)

# Names are the same on Debian 12 and Ubuntu 22.04 and 24.04.
readonly build_packages=(g++ cmake ninja-build git python3 python3-venv libbenchmark-dev libcli11-dev
  libfmt-dev nlohmann-json3-dev libgtest-dev libgmock-dev)
# shellcheck disable=SC2034  # used by scripts/lint
readonly lint_packages=(clang-format-14 clang-tidy-14 shellcheck)

# The command that a package brings: found on PATH, whoever installed it, it will do.
package_command() {
  case $1 in
    *-venv) ;;
    g++ | cmake | git | python3* | shellcheck | clang-format-14 | clang-tidy-14) echo "$1" ;;
    ninja-build) echo ninja ;;
  esac
}

package_present() {
  local program
  program=$(package_command "$1")
  if [[ -n $program ]]; then
    have "$program"
  elif [[ $1 == *-venv ]]; then
    [[ -x $python ]] || "${1%-venv}" -c 'import ensurepip, venv' 2>/dev/null
  else
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'
  fi
}

# ensure_packages NAME...: installs those that are missing, or names them and stops.
ensure_packages() {
  local package missing=()
  if ! have dpkg-query; then
    say "not a Debian or Ubuntu machine: going on, in the hope of what these packages hold: $*"
    return
  fi
  for package in "$@"; do
    package_present "$package" || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0

  local as_root=()
  if [[ $EUID -ne 0 ]]; then
    if ! have sudo || ! { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
      die "missing packages, and neither root nor sudo to install them; have an administrator run:
  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    fi
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  local apt=(${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -qq)
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >&2
  then
    die "apt-get could not install: ${missing[*]}"
  fi
}

version_at_least() { [[ $(printf '%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# The first interpreter on PATH that is new enough; nothing where there is none.
system_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11; do
    have "$candidate" && version_at_least "$("$candidate" -V | cut -d ' ' -f 2)" "$python_minimum" &&
      echo "$candidate" && break
  done
  return 0
}

ensure_venv() {
  [[ ! -x $python ]] || return 0
  local interpreter
  interpreter=$(system_python)
  if [[ -z $interpreter ]]; then  # Ubuntu 22.04 has a newer one beside its own
    interpreter=python$python_minimum
    ensure_packages "$interpreter" "$interpreter-venv"
  fi
  say "creating .venv"
  "$interpreter" -m venv "$venv" >&2 || die "$interpreter -m venv failed: is $interpreter-venv installed?"
}

# ensure_python FILE...: .venv with the requirements of these files; each installed once, and again
# when the file changes.
ensure_python() {
  ensure_venv
  local file stamp digest
  for file in "$@"; do
    stamp=$venv/stamps/$(basename "$file")
    digest=$(sha256sum <"$root/$file")
    [[ -f $stamp && $(<"$stamp") == "$digest" ]] && continue
    say "installing $file into .venv"
    "$python" -m pip install --quiet --disable-pip-version-check -r "$root/$file" >&2 ||
      die "pip could not install $file: is there a network, or a PIP_FIND_LINKS folder?"
    mkdir -p "$venv/stamps" && echo "$digest" >"$stamp"
  done
}

# A CMake that knows our presets: the system's, or a wheel's in .venv.
ensure_cmake() {
  local version
  version=$(cmake --version 2>/dev/null | awk 'NR == 1 { print $3 }')
  version_at_least "${version:-0}" "$cmake_minimum" && return
  if [[ ! -x $venv/bin/cmake ]]; then
    say "cmake ${version:-is missing}, want $cmake_minimum or later: installing $cmake_wheel into .venv"
    "$python" -m pip install --quiet --disable-pip-version-check "$cmake_wheel" >&2 ||
      die "pip could not install $cmake_wheel"
  fi
  PATH=$venv/bin:$PATH
}

# Everything that a build and the plots need.
ensure_build_tools() {
  ensure_packages "${build_packages[@]}"
  ensure_python plots/requirements.txt
  ensure_cmake
}

# NVIDIA's compiler and libraries as wheels in .venv, in the layout of a toolkit.
ensure_cuda_wheels() {
  ensure_python scripts/requirements-cuda.txt
  local toolkit
  toolkit=$(cuda_wheels_home)
  [[ -x $toolkit/bin/nvcc ]] || die "the CUDA wheels hold no bin/nvcc under $toolkit"
  # CMake and the linker look for lib64 and for unversioned names; the wheels hold neither.
  ln -sfn lib "$toolkit/lib64"
  local library
  for library in "$toolkit"/lib/lib*.so.[0-9]*; do
    [[ -e ${library%.so.*}.so ]] || ln -s "$(basename "$library")" "${library%.so.*}.so"
  done
}

cuda_wheels_home() {
  "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib") + "/nvidia/cu13")'
}
