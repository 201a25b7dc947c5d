#!/usr/bin/env bash
# Has examples/ sign against a signer of its own, as their README says, and judges
# what they wrote. Expects bin/ to be built. Leaves nothing behind.
#
#   build/examples.sh [LANGUAGE]...      python, javascript, php, java; without one the first two
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
languages=("$@")
[ $# -gt 0 ] || languages=(python javascript)

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
cp -r examples proto "$dir" # what npm installs stays out of the clone
protos() { protoc -I proto "$@" roamsign/v1/signer.proto; }

# Debian's Python, which has Debian's packages.
prepare_python() {
  protos --python_out="$dir/stubs" --grpc_python_out="$dir/stubs" --plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin
}
python() { PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$dir/stubs /usr/bin/python3 "$dir/examples/python/sign.py" "$@"; }

prepare_javascript() {
  (cd "$dir/examples/node" && npm ci --no-audit --no-fund --ignore-scripts >"$dir/log.npm" 2>&1) || fail "npm ci failed"
}
javascript() { node "$dir/examples/node/sign.mjs" "$@"; }

prepare_php() { protos --php_out="$dir/stubs"; }
php_() { /usr/bin/php -d include_path="$dir/stubs:/usr/share/php" "$dir/examples/php/sign.php" "$@"; }

# Debian's netty has no ALPN of its own on a JDK of today, but with OpenSSL, whose
# library it wants under a name that the package does not give it.
prepare_java() {
  mkdir "$dir/classes" "$dir/jni"
  cp /usr/lib/*/jni/libnetty-tcnative.so "$dir/jni/libnetty_tcnative.so"
  protos --java_out="$dir/stubs" --grpc-java_out="$dir/stubs" --plugin=protoc-gen-grpc-java=/usr/bin/grpc_java_plugin
  jars=$(printf '%s:' /usr/share/java/{grpc-{api,context,core,netty,protobuf,protobuf-lite,stub},protobuf,guava,netty-{buffer,codec,codec-http,codec-http2,codec-socks,common,handler,handler-proxy,resolver,transport,transport-native-unix-common,tcnative},perfmark-api,jsr305,geronimo-annotation-1.3-spec,opencensus-api}.jar)
  javac -nowarn -d "$dir/classes" -cp "$jars" "$dir"/stubs/roamsign/v1/*.java "$dir/examples/java/Sign.java" >"$dir/log.javac" 2>&1 || fail "javac failed"
}
java_() { java -Djava.library.path="$dir/jni" -cp "$dir/classes:$jars" Sign "$@"; }

tin=C20880050010
for language in "${languages[@]}"; do
  "prepare_$language"
  case $language in java | php) run=${language}_ ;; *) run=$language ;; esac # not the programs of that name
  for document in invoice.xml self-billed.json; do
    signed=$dir/$language.${document##*.}
    "$run" "$address" "$dir/dev" "$tin" "testdata/$document" >"$signed" 2>"$dir/log.$language" ||
      fail "$language could not have $document signed"
    bin/roamsign verify --roots "$dir/dev/roots.pem" "$signed" >"$dir/log.verify" || fail "what $language wrote is not valid"
  done
  if "$run" "$address" "$dir/dev" C20880050020 testdata/invoice.xml >"$dir/refused" 2>"$dir/log.$language"; then
    fail "$language had a document signed for somebody else"
  fi
  grep -q FAILED_PRECONDITION "$dir/log.$language" || fail "$language does not say why it was refused"
  [ ! -s "$dir/refused" ] || fail "$language wrote something although it was refused"
  echo "examples: $language signed XML and JSON, valid, and was refused another's taxpayer"
done
