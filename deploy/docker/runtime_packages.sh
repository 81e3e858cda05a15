#!/usr/bin/env bash
# The Debian packages whose shared libraries the programs in a folder load. Usage: runtime_packages.sh FOLDER
set -euo pipefail
[ $# -eq 1 ] && [ -d "$1" ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
# By file name: what ldd prints as /lib/x a package may own as /usr/lib/x. Links lead to the file that is loaded: of
# all packages with a libblas.so.3 only the chosen one has that file.
# libsentencepiece is loaded when a SentencePiece model is, not linked.
{
  ldd "$1"/* | awk '$2 == "=>" && $3 ~ /^\// {print $3}'
  ldconfig -p | awk '$1 == "libsentencepiece.so.0" {print $NF}'
} | sort -u | xargs -n 1 realpath | sort -u |
  while read -r library; do
    dpkg -S "$library" 2> /dev/null || dpkg -S "${library#/usr}"
  done | sed 's/:.*//' | sort -u
