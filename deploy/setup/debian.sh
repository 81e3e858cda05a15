#!/usr/bin/env bash
# Installs what building and testing bdh needs and is missing, and nothing else.
#
#   deploy/setup/debian.sh            install (root, or sudo)
#   deploy/setup/debian.sh --check    only say what is missing; exit 1 if anything is
#   deploy/setup/debian.sh --list     print the packages for this system
#
# Debian 12 is tested. Debian 13 and Ubuntu 24.04 go by the name map below and are untested.
# BDH_OS_RELEASE names another file than /etc/os-release, to see what would be done elsewhere.
# No system alternative is changed: which BLAS LibTorch loads stays the administrator's choice.
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 2; }

build_tools=(build-essential cmake ninja-build pkg-config ccache git ca-certificates curl)
libraries=(libgrpc++-dev libgrpc-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev
  librocksdb-dev libtorch-dev libopenblas0-pthread libhwy-dev libgtest-dev libgmock-dev libbenchmark-dev
  libyaml-cpp-dev nlohmann-json3-dev libboost1.81-dev prometheus-cpp-dev libgoogle-glog-dev libgflags-dev
  libcli11-dev libssl-dev zlib1g-dev libsnappy-dev libzstd-dev libpcre2-dev libsentencepiece-dev
  libicu-dev libbrotli-dev liblz4-dev libcurl4-openssl-dev)
corpus=(bible-kjv)
# docs/examples/python, which a test runs.
clients=(python3 python3-grpcio)
# For `make lint` and the clang preset; not needed to build or test.
lint_tools=(clang-14 clang-format-14 clang-tidy-14)

# What another release calls a package of the lists above: "name=theirs".
renamed_debian13=(libboost1.81-dev=libboost1.83-dev clang-14=clang-19 clang-format-14=clang-format-19 clang-tidy-14=clang-tidy-19)
renamed_ubuntu2404=(libboost1.81-dev=libboost1.83-dev clang-14=clang-18 clang-format-14=clang-format-18 clang-tidy-14=clang-tidy-18)

identify() {
  local release=${BDH_OS_RELEASE:-/etc/os-release}
  [ -r "$release" ] || die "no $release: this script knows Debian and Ubuntu; elsewhere install the packages of --list by your system's names"
  . "$release"
  case "${ID:-}:${VERSION_ID:-}" in
    debian:12) renames=() ;;
    debian:13) renames=("${renamed_debian13[@]}"); say "Debian 13 is untested; going by a name map" >&2 ;;
    ubuntu:24.04) renames=("${renamed_ubuntu2404[@]}"); say "Ubuntu 24.04 is untested; going by a name map" >&2 ;;
    debian:* | ubuntu:*)
      die "${PRETTY_NAME:-this release} is not supported: bdh needs the gRPC, Abseil and LibTorch of Debian 12 or newer. Build in a debian:12 container instead" ;;
    *) die "${PRETTY_NAME:-this system} is not Debian or Ubuntu: install the packages of $0 --list by your system's names, then run cmake directly" ;;
  esac
}

packages() {
  local name rename
  for name in "${build_tools[@]}" "${libraries[@]}" "${corpus[@]}" "${clients[@]}" ${BDH_LINT_TOOLS:+"${lint_tools[@]}"}; do
    for rename in ${renames[@]+"${renames[@]}"}; do
      [ "${rename%%=*}" = "$name" ] && name=${rename#*=}
    done
    printf '%s\n' "$name"
  done
}

missing() {
  local have
  have=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null | awk '$2 == "installed" {print $1}' | sort -u)
  packages | sort -u | comm -23 - <(printf '%s\n' "$have")
}

install() {
  local root=() wanted=("$@")
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "these packages are missing and I am neither root nor is sudo here: ${wanted[*]}"
    root=(sudo)
  fi
  say "installing ${#wanted[@]} packages: ${wanted[*]}"
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
  say "done"
}

identify
case "${1:-}" in
  --list) packages; exit 0 ;;
  --check | "") ;;
  *) sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//'; exit 2 ;;
esac
mapfile -t wanted < <(missing)
if [ "${#wanted[@]}" -eq 0 ]; then
  say "nothing is missing"
elif [ "${1:-}" = --check ]; then
  say "missing: ${wanted[*]}"
  exit 1
else
  install "${wanted[@]}"
fi
