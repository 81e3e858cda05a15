#!/usr/bin/env bash
# From nothing to an answer over HTTP: starts the mesh, trains a small BDH on the King James Bible, serves it and
# asks it to go on. A second run finds what is there and is done in seconds. `make quickstart` calls this after
# building. BDH_DATA is the mesh's folder, BDH_BIN where the binaries are.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${BDH_DATA:-./bdh-data}
bdhctl=${BDH_BIN:-build/bin}/bdhctl

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

ctl() { "$bdhctl" "$@" --data "$data"; }

# Of a listing on standard input (JSON): the value of KEY in the object whose name is NAME.
field_of() {
  awk -F '"' -v name="$1" -v key="$2" '$2 == "name" {ours = ($4 == name)} ours && $2 == key {print $4; exit}'
}

step "Starting the five daemons"
ctl up --detach
url=$(ctl status --json | awk -F '"' '$2 == "url" {print $4; exit}')

step "Data: the King James Bible, 4.4 MB of public-domain text (Debian's bible-kjv)"
if [ -n "$(ctl data ls --json | field_of kjv hash)" ]; then
  echo "The data set kjv is there already."
else
  bible -f 'gen1:1-rev22:21' | ctl data add kjv -
fi

step "Training a small BDH (configs/quickstart.yaml)"
# A run that was interrupted goes on where it was.
case $(ctl train ls --json | field_of quickstart state) in
  finished) echo "The run quickstart is finished already." ;;
  starting | running) ctl train watch quickstart ;;
  "") ctl train start --dataset kjv --config configs/quickstart.yaml --name quickstart --tag quickstart --watch ;;
  *) ctl train start --dataset kjv --name quickstart --resume --watch ;;
esac

step "Serving the checkpoint with the best validation loss"
ctl models load quickstart

step "Asking it, as any OpenAI client would"
prompt='Gen1:1 In the beginning God'
request='{"model": "quickstart", "prompt": "'$prompt'", "max_tokens": 220, "temperature": 0.4, "seed": 7, "stream": true}'
printf "curl -N %s/v1/completions -H 'Content-Type: application/json' -d '%s'\n\n" "$url" "$request"
printf '%s' "$prompt"
stream=$(mktemp)
trap 'rm -f "$stream"' EXIT
curl -sSN --fail-with-body "$url/v1/completions" -H 'Content-Type: application/json' -d "$request" |
  tee "$stream" |
  while IFS= read -r line; do
    text=$(sed -nE 's/^data: .*"text": *"(([^"\\]|\\.)*)".*/\1/p' <<<"$line")
    printf '%b' "${text//\\\"/\"}"
  done
echo
grep -q '^data: \[DONE\]' "$stream" || { echo "quickstart: the stream did not end as it should:" >&2; tail -n 3 "$stream" >&2; exit 1; }

cat <<END

It has read the Bible for two minutes; give it hours and it will do better. The mesh stays up at $url. Try:

  $bdhctl generate --model quickstart "And the LORD said" --max-tokens 200
  $bdhctl status
  $bdhctl data add mine path/to/*.txt && $bdhctl train start --dataset mine --config configs/quickstart.yaml --watch
  curl $url/v1/models
  python3 -c 'from openai import OpenAI; print(OpenAI(base_url="$url/v1", api_key="none").completions.create(model="quickstart", prompt="And God said", max_tokens=80).choices[0].text)'
  $bdhctl down
END
