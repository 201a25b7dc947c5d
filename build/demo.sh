#!/usr/bin/env bash
# Shows the whole way of an invoice: a key made inside a throw-away SoftHSM2 token,
# an XML invoice and a self-billed JSON one signed with it over gRPC, both verified
# by roamsign, and the XML one by xmllint and openssl alone. Expects bin/ to be
# built. Leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."

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
trap 'exit 130' INT
trap 'exit 143' TERM

# tell COMMAND: what is done next, as one would type it.
tell() { printf '\n$ %s\n' "$*"; }
# short: paths as one would type them after "cd DIR".
short() { sed "s#$dir/##g"; }

tell roamsignd dev --dir DIR
bin/roamsignd dev --dir "$dir/dev" >"$dir/said" 2>"$dir/log" &
daemon=$!
for ((i = 0; i < 600; i++)); do
  if [ -e "$dir/dev/ready" ] || ! kill -0 "$daemon" 2>/dev/null; then
    break
  fi
  sleep 0.1
done
if [ ! -e "$dir/dev/ready" ] || ! kill -0 "$daemon" 2>/dev/null; then
  echo "roamsignd did not get ready:" >&2
  cat "$dir/said" "$dir/log" >&2
  exit 1
fi
grep '^Made' "$dir/said"
echo "Serves on $(cat "$dir/dev/ready")"

# The PIN of this token opens nothing else, and is gone in a moment.
tell pkcs11-tool --login --list-objects --type privkey
PIN=$(cat "$dir/dev/pin") SOFTHSM2_CONF=$dir/dev/softhsm2.conf pkcs11-tool \
  --module "$(sed -n 's/^ *module: "\(.*\)"$/\1/p' "$dir/dev/roamsignd.yaml")" \
  --token-label roamsign-dev --login --pin env:PIN --list-objects --type privkey 2>"$dir/log.pkcs11" |
  grep -E 'label|Access' || { cat "$dir/log.pkcs11" >&2; exit 1; }

tell roamsign --config DIR/client.yaml sign testdata/invoice.xml testdata/self-billed.json
bin/roamsign --config "$dir/dev/client.yaml" sign --out "$dir" testdata/invoice.xml testdata/self-billed.json | short

tell roamsign verify --roots DIR/roots.pem invoice.signed.xml self-billed.signed.json
bin/roamsign verify --roots "$dir/dev/roots.pem" "$dir/invoice.signed.xml" "$dir/self-billed.signed.json" |
  short | grep -E '^[^ ]|^  (document|taxpayer|digest)'

tell "xmllint --c14n11 invoice.signed.xml | (without the two signature blocks) | openssl dgst -sha256 -verify"
value() { xmllint --xpath "string(//*[local-name()='$1'])" "$dir/invoice.signed.xml" | tr -d ' \r\n'; }
value SignatureValue | openssl base64 -d -A >"$dir/signature"
value X509Certificate | openssl base64 -d -A | openssl x509 -inform DER -pubkey -noout >"$dir/public.pem"
xmllint --c14n11 "$dir/invoice.signed.xml" |
  sed -E 's#<UBLExtensions.*</UBLExtensions>##; s#<cac:Signature>.*</cac:Signature>##' >"$dir/document"
openssl dgst -sha256 -verify "$dir/public.pem" -signature "$dir/signature" "$dir/document"
printf 'Digest: %s\n' "$(openssl dgst -sha256 -binary "$dir/document" | openssl base64)"
