#!/usr/bin/env bash
# Checks the API: the protos are linted, the committed code is what they
# generate, and nothing promised in proto/baseline.txtpb has been broken.
set -euo pipefail
cd "$(dirname "$0")/.."

buf() { go tool -modfile=tools.mod buf "$@"; }

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

buf lint
buf generate --output "$fresh"
for file in $(git ls-files 'proto/*.pb.go') $(cd "$fresh" && find proto -name '*.pb.go'); do
  if ! cmp -s "$file" "$fresh/$file"; then
    echo "$file is not what the protos generate: run \"make generate\" and commit the result." >&2
    exit 1
  fi
done
buf breaking --against proto/baseline.txtpb
if ! buf breaking proto/baseline.txtpb --against .; then
  echo "The API has grown beyond proto/baseline.txtpb: run \"make baseline\" and commit the result." >&2
  exit 1
fi
