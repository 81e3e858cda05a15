#!/usr/bin/env bash
# From nothing to an answer over HTTP: starts the mesh, trains a small BDH on the King James Bible, serves it and
# asks it to go on. A second run finds what is there and is done in seconds. `make quickstart` calls this after
# building.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${BDH_DATA:-./bdh-data}
ctl=build/bin/bdhctl

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

# Whether a listing (JSON on standard input) holds an object with this name.
has() { grep -Eq "\"$1\": *\"$2\""; }

step "Starting the five daemons"
"$ctl" up --detach --data "$data"
url=$("$ctl" status --data "$data" --json | grep -Eo 'http://[0-9a-zA-Z.:_-]+' | head -n 1)

step "Data: the King James Bible, 4.4 MB of public-domain text (Debian's bible-kjv)"
if "$ctl" data ls --data "$data" --json | has name kjv; then
  echo "The data set kjv is there already."
else
  bible -f 'gen1:1-rev22:21' | "$ctl" data add kjv - --data "$data"
fi

step "Training a small BDH (configs/quickstart.yaml)"
if "$ctl" ckpt ls --tags --data "$data" --json | has name quickstart; then
  echo "The model quickstart is there already; 'bdhctl train start --help' shows how to train another."
elif "$ctl" train ls --data "$data" --json | has name quickstart; then
  "$ctl" train start --dataset kjv --config configs/quickstart.yaml --name quickstart --tag quickstart \
    --resume --watch --data "$data"
else
  "$ctl" train start --dataset kjv --config configs/quickstart.yaml --name quickstart --tag quickstart \
    --watch --data "$data"
fi

step "Serving it"
if "$ctl" models ls --data "$data" --json | has id quickstart; then
  echo "The model quickstart is loaded."
else
  "$ctl" models load quickstart --data "$data"
fi

step "Asking it, as any OpenAI client would"
prompt='In the beginning God '
request='{"model": "quickstart", "prompt": "'$prompt'", "max_tokens": 240, "temperature": 0.7, "seed": 7, "stream": true}'
printf 'curl -N %s/v1/completions -d %q\n\n' "$url" "$request"
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

  $ctl generate --model quickstart "And the LORD said" --max-tokens 200
  $ctl status
  $ctl data add mine path/to/*.txt && $ctl train start --dataset mine --config configs/quickstart.yaml --watch
  curl $url/v1/models
  python3 -c 'from openai import OpenAI; print(OpenAI(base_url="$url/v1", api_key="none").completions.create(model="quickstart", prompt="And God said", max_tokens=80).choices[0].text)'
  $ctl down
END
