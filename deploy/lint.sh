#!/usr/bin/env bash
# Format of every source, clang-tidy on the .cc files changed since BASE. Usage: deploy/lint.sh [BASE]
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:-HEAD~1}

die() { printf 'lint: %s\n' "$*" >&2; exit 2; }

# The house's format is that of version 14; a newer one may see a line otherwise, so 14 is looked for first.
tool() {
  local name
  for name in "$1-14" "$1" "$1-19" "$1-18" "$1-16"; do
    command -v "$name" && return
  done
  die "$1 is not installed: run BDH_LINT_TOOLS=1 deploy/setup/debian.sh"
}

format=$(tool clang-format)
tidy=$(tool clang-tidy)
compiler=$(tool clang++)

git ls-files '*.cc' '*.h' | xargs "$format" --dry-run -Werror
echo "lint: the format of $(git ls-files '*.cc' '*.h' | wc -l) files is right"

git rev-parse --quiet --verify "$base^{commit}" > /dev/null || die "BASE=$base is no commit of this repository"
mapfile -t changed < <(git diff --name-only --diff-filter=d "$base" -- '*.cc')
if [ "${#changed[@]}" -eq 0 ]; then
  echo "lint: no .cc file changed since $base"
  exit 0
fi
# A build without precompiled headers, because clang cannot read gcc's.
cmake --preset clang -B build/lint -DBDH_PRECOMPILED_HEADERS=OFF \
  -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_C_COMPILER="${compiler/++/}" -Wno-dev > /dev/null
cmake --build build/lint --target bdh_rpc > /dev/null
printf '%s\n' "${changed[@]}" | xargs -P "$(nproc)" -n 4 "$tidy" -p build/lint --quiet
echo "lint: clang-tidy read ${#changed[@]} files"
