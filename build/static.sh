#!/usr/bin/env bash
# Fails unless the named program is a static one: it asks for no interpreter and
# for no shared library.
set -euo pipefail

headers=$(readelf --wide --program-headers --dynamic "$1")
if grep -qE 'INTERP|\(NEEDED\)' <<<"$headers"; then
  echo "$1 is not static:" >&2
  grep -E 'interpreter|\(NEEDED\)' <<<"$headers" >&2
  exit 1
fi
