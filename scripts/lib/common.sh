# Sourced by every script: strict mode, messages, the repository's root.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
# shellcheck disable=SC2034  # used by those who source this
readonly root
readonly exit_failed=1 exit_usage=2

say() { printf '%s\n' "$*" >&2; }

die() {
  say "${0##*/}: $*"
  exit "$exit_failed"
}

# A caller's mistake.
die_usage() {
  say "${0##*/}: $* (--help tells more)"
  exit "$exit_usage"
}

have() { command -v "$1" >/dev/null 2>&1; }

# run_child COMMAND...: runs it so that a signal to this script alone ends it too. Bash sees a signal
# only between its commands, or while it waits for one in the background. The status is the command's.
run_child() {
  "$@" <&0 &  # without <&0 it would read /dev/null
  wait "$!"
}

# on_interrupt TEXT: where INT, TERM or HUP comes, ends what run_child runs and waits for its end,
# says TEXT, and ends as a signal ends a program.
on_interrupt() {
  interrupt_text=$1
  trap 'interrupted 129' HUP
  trap 'interrupted 130' INT
  trap 'interrupted 143' TERM
}
interrupted() {
  trap '' HUP INT TERM
  local child
  for child in $(jobs -p); do
    kill -TERM "$child" 2>/dev/null || true  # bash lets what is in the background ignore INT
    wait "$child" 2>/dev/null || true
  done
  say interrupted
  [[ -z $interrupt_text ]] || say "$interrupt_text"
  exit "$1"
}
on_interrupt ''

# The value of option $1, given as $2 where $# says so.
require_value() {
  [[ $# -ge 2 && -n $2 && $2 != --* ]] || die_usage "$1 needs a value"
}

# own_options OPTIONS [GIVEN...]: the words of OPTIONS, each --name or --name=value, less those
# whose names the caller gave, one a line.
own_options() {
  local options=$1 option given
  shift
  for option in $options; do
    for given in "$@"; do
      [[ ${given%%=*} != "${option%%=*}" ]] || continue 2
    done
    echo "$option"
  done
}

utc_stamp() { date -u +%Y-%m-%dT%H%M%SZ; }

# Creates folder $1 and proves that files can be made in it.
require_writable() {
  if ! { mkdir -p "$1" && touch "$1/.writable" && rm "$1/.writable"; } 2>/dev/null; then
    die_usage "cannot write to '$1': name a folder that can be created and written"
  fi
}
