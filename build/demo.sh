#!/usr/bin/env bash
# Shows the whole way of an invoice: a key made inside a throw-away SoftHSM2 token,
# an XML invoice and a self-billed JSON one signed with it over gRPC, both verified
# by roamsign, and the XML one by xmllint and openssl alone; then both submitted by
# the intermediary on behalf of the taxpayer, to a stand-in for LHDN's platform,
# which finds them Valid, and the receipt of one. Expects bin/ to be built. All of it
# stays on loopback and in a folder of its own, and nothing is left behind.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=$(mktemp -d)
running=()
finish() {
  for ((i = ${#running[@]} - 1; i >= 0; i--)); do
    kill "${running[i]}" 2>/dev/null || true
    wait "${running[i]}" || true
  done
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# serve NAME COMMAND...: starts what serves until it is killed, and waits until the
# file DIR/NAME/ready tells that it does. What it says is in DIR/NAME.said.
serve() {
  local name=$1
  shift
  "$@" >"$dir/$name.said" 2>"$dir/$name.log" &
  running+=($!)
  for ((i = 0; i < 600; i++)); do
    if [ -e "$dir/$name/ready" ] || ! kill -0 "${running[-1]}" 2>/dev/null; then
      break
    fi
    sleep 0.1
  done
  if [ ! -e "$dir/$name/ready" ] || ! kill -0 "${running[-1]}" 2>/dev/null; then
    echo "$1 did not get ready:" >&2
    cat "$dir/$name.said" "$dir/$name.log" >&2
    exit 1
  fi
}

# tell COMMAND: what is done next, as one would type it.
tell() { printf '\n$ %s\n' "$*"; }
# short: paths as one would type them after "cd DIR".
short() { sed "s#$dir/##g"; }

# The invoices, issued a minute ago: LHDN takes none that is older than three days.
issued=$(date -u -d '-1 minute' +'%Y-%m-%d %H:%M:%SZ')
sed -E "s#(<cbc:IssueDate>)[^<]*#\1${issued% *}#; s#(<cbc:IssueTime>)[^<]*#\1${issued#* }#" testdata/invoice.xml >"$dir/invoice.xml"
sed -E "/\"IssueDate\"/,/\]/ s#(\"_\": \")[^\"]*#\1${issued% *}#; /\"IssueTime\"/,/\]/ s#(\"_\": \")[^\"]*#\1${issued#* }#" \
  testdata/self-billed.json >"$dir/self-billed.json"

tell roamsignd dev --dir dev
serve dev bin/roamsignd dev --dir "$dir/dev"
grep '^Made' "$dir/dev.said"
echo "Serves on $(cat "$dir/dev/ready")"

# The PIN of this token opens nothing else, and is gone in a moment.
tell pkcs11-tool --login --list-objects --type privkey
PIN=$(cat "$dir/dev/pin") SOFTHSM2_CONF=$dir/dev/softhsm2.conf pkcs11-tool \
  --module "$(sed -n 's/^ *module: "\(.*\)"$/\1/p' "$dir/dev/roamsignd.yaml")" \
  --token-label roamsign-dev --login --pin env:PIN --list-objects --type privkey 2>"$dir/log.pkcs11" |
  grep -E 'label|Access' || { cat "$dir/log.pkcs11" >&2; exit 1; }

tell roamsign --config dev/client.yaml sign invoice.xml self-billed.json
bin/roamsign --config "$dir/dev/client.yaml" sign "$dir/invoice.xml" "$dir/self-billed.json" | short | tee "$dir/signed"
entry=$(sed -n 's/^invoice.xml .*, entry \([0-9]*\).*/\1/p' "$dir/signed")

tell roamsign verify --roots dev/roots.pem invoice.signed.xml self-billed.signed.json
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

# What was signed above is submitted as it is.
tell roamsign sandbox --dir sandbox --roots dev/roots.pem
serve sandbox bin/roamsign sandbox --dir "$dir/sandbox" --roots "$dir/dev/roots.pem"
sed -n '/^THIS/,/^$/p' "$dir/sandbox.said" | sed '$d'
echo "Serves on https://$(cat "$dir/sandbox/ready")"

tell roamsign --config dev/client.yaml submit --platform sandbox/myinvois.yaml invoice.signed.xml self-billed.signed.json
bin/roamsign --config "$dir/dev/client.yaml" submit --platform "$dir/sandbox/myinvois.yaml" \
  "$dir/invoice.signed.xml" "$dir/self-billed.signed.json" | short

tell roamsign --config dev/client.yaml receipt get "$entry" --out receipt
bin/roamsign --config "$dir/dev/client.yaml" receipt get "$entry" --out "$dir/receipt"

tell roamsign receipt verify --log-key dev/audit.pub --document invoice.signed.xml receipt
bin/roamsign receipt verify --log-key "$dir/dev/audit.pub" --document "$dir/invoice.signed.xml" "$dir/receipt" |
  short | grep -E '^[^ ]|^  (log|recorded|on behalf of|asked for by|number)'
