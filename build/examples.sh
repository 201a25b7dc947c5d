#!/usr/bin/env bash
# Has examples/ sign against a signer of its own, as their README says, and judges
# what they wrote. Expects bin/ to be built. Leaves nothing behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=$(mktemp -d)
daemon=
finish() {
  if [ -n "$daemon" ]; then
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" || true
  fi
  rm -rf "$dir"
}
trap finish EXIT

fail() {
  echo "examples: $*" >&2
  cat "$dir"/log* >&2
  exit 1
}

bin/roamsignd dev --dir "$dir/dev" >"$dir/log.said" 2>"$dir/log" &
daemon=$!
for ((i = 0; i < 600; i++)); do
  if [ -e "$dir/dev/ready" ]; then break; fi
  kill -0 "$daemon" 2>/dev/null || fail "roamsignd ended"
  sleep 0.1
done
address=$(cat "$dir/dev/ready")

mkdir "$dir/stubs"
protoc -I proto --python_out="$dir/stubs" --grpc_python_out="$dir/stubs" \
  --plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin roamsign/v1/signer.proto
cp -r examples proto "$dir" # what npm installs stays out of the clone
(cd "$dir/examples/node" && npm ci --no-audit --no-fund --ignore-scripts >"$dir/log.npm" 2>&1) || fail "npm ci failed"

# Debian's Python, which has Debian's packages.
python() { PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$dir/stubs /usr/bin/python3 "$dir/examples/python/sign.py" "$@"; }
javascript() { node "$dir/examples/node/sign.mjs" "$@"; }

tin=C20880050010
for language in python javascript; do
  for document in invoice.xml self-billed.json; do
    signed=$dir/$language.${document##*.}
    "$language" "$address" "$dir/dev" "$tin" "testdata/$document" >"$signed" 2>"$dir/log.$language" ||
      fail "$language could not have $document signed"
    bin/roamsign verify --roots "$dir/dev/roots.pem" "$signed" >"$dir/log.verify" || fail "what $language wrote is not valid"
  done
  if "$language" "$address" "$dir/dev" C20880050020 testdata/invoice.xml >"$dir/refused" 2>"$dir/log.$language"; then
    fail "$language had a document signed for somebody else"
  fi
  grep -q FAILED_PRECONDITION "$dir/log.$language" || fail "$language does not say why it was refused"
  [ ! -s "$dir/refused" ] || fail "$language wrote something although it was refused"
  echo "examples: $language signed XML and JSON, valid, and was refused another's taxpayer"
done
