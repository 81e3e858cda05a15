#!/bin/bash
# Measures what the figures of docs/ are drawn from, into docs/figures/data. Then run docs/figures/draw.py.
#
#   docs/figures/measure.sh [PART...]       parts: decode decode_bf16 prefill trained; none: the first three
#
# About three minutes on two quiet cores, most of it `decode`. Nothing else should run meanwhile. BDHCTL names another
# bdhctl than build/bin's, LONGEST another longest context than 16384. `trained` wants in TRAINED the directory that
# `bdhctl model export` made of the quickstart's model, and takes a minute.
set -euo pipefail
cd "$(dirname "$0")/../.."
bdhctl=${BDHCTL:-build/bin/bdhctl}
data=docs/figures/data

# record NAME SHOWN COMMAND...: its rows to NAME.json, and beside them in NAME.txt how they came about.
record() {
  local name=$1 shown=$2 load
  shift 2
  load=$(cut -d ' ' -f 1 /proc/loadavg)
  echo "$shown" >&2
  "$@" > "$data/$name.json.part"
  mv "$data/$name.json.part" "$data/$name.json"
  {
    echo "$shown"
    echo "$(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), load $load before it began"
  } > "$data/$name.txt"
}

bench() {
  local name=$1
  shift
  record "$name" "bdhctl bench $*" "$bdhctl" bench "$@"
}

density() {
  record "$1" "docs/figures/density.py kjv $3 384" docs/figures/density.py "$TRAINED" "$2" 384
}

trained() {
  [ -n "${TRAINED:-}" ] || { echo "measure.sh: trained wants TRAINED, a directory of bdhctl model export" >&2; exit 2; }
  local folder
  folder=$(mktemp -d)
  bible -f 'rev22:1-rev22:21' > "$folder/rev22.txt"
  docs/figures/density.py --bench-file "$TRAINED" > "$folder/kjv.safetensors"
  density trained_text "$folder/rev22.txt" rev22.txt
  density trained_other README.md README.md
  local flags=(decode --rounds 1 --no-oracle --contexts 384 --json)
  record trained_noise "bdhctl bench ${flags[*]} --weights kjv.safetensors" \
    "$bdhctl" bench "${flags[@]}" --weights "$folder/kjv.safetensors"
  rm -r "$folder"
}

measure() {
  case $1 in
    decode) bench decode decode --rounds 2 --contexts "64,512,2048,${LONGEST:-16384}" --json ;;
    decode_bf16) bench decode_bf16 decode --rounds 2 --dtype bf16 --contexts 64,512,2048 --json ;;
    prefill) bench prefill prefill --rounds 3 --contexts 128,512,2048 --json ;;
    trained) trained ;;
    *)
      echo "measure.sh: no part is called $1; want decode, decode_bf16, prefill or trained" >&2
      exit 2
      ;;
  esac
}

[ $# -gt 0 ] || set -- decode decode_bf16 prefill
for part in "$@"; do measure "$part"; done
