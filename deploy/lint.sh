#!/usr/bin/env bash
# Format of every source, clang-tidy on the .cc files changed since BASE. Usage: deploy/lint.sh [BASE]
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:-HEAD~1}
format=$(command -v clang-format-14 || command -v clang-format)
tidy=$(command -v clang-tidy-14 || command -v clang-tidy)

git ls-files '*.cc' '*.h' | xargs "$format" --dry-run -Werror
echo "lint: the format of $(git ls-files '*.cc' '*.h' | wc -l) files is right"

mapfile -t changed < <(git diff --name-only --diff-filter=d "$base" -- '*.cc')
if [ "${#changed[@]}" -eq 0 ]; then
  echo "lint: no .cc file changed since $base"
  exit 0
fi
# A build without precompiled headers, because clang cannot read gcc's.
cmake --preset clang -B build/lint -DBDH_PRECOMPILED_HEADERS=OFF -Wno-dev > /dev/null
cmake --build build/lint --target bdh_rpc > /dev/null
"$tidy" -p build/lint --quiet "${changed[@]}"
echo "lint: clang-tidy read ${#changed[@]} files"
