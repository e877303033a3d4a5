#!/bin/sh
# Prints the revision of the sources in folder $1: of a clean checkout its commit, of a changed one
# <commit>-dirty-<hash of the sources>, and tree-<hash> where the folder is no checkout of its own (an
# archive, in whichever repository it was unpacked) or git does not read it. Two revisions are the same
# only where the sources are.
set -eu
cd -P "$1"
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE  # a hook's

# safe.directory: whoever owns the checkout, what it says is only read.
in_checkout() {
  GIT_CEILING_DIRECTORIES=$(dirname "$PWD") git -c safe.directory="$PWD" -c core.fsmonitor=false "$@" \
    2>/dev/null
}
source_hash() {
  find kernels baselines benchmarks scripts/cmake CMakeLists.txt -type f -exec sha256sum {} + |
    LC_ALL=C sort -k 2 | sha256sum | cut -c 1-12
}

revision=$(in_checkout describe --always --dirty --abbrev=12 '--exclude=*') || revision=
case $revision in
  '') echo "tree-$(source_hash)" ;;
  *-dirty) echo "$revision-$(source_hash)" ;;
  *) echo "$revision" ;;
esac
