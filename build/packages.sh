#!/usr/bin/env bash
# Installs those of the named Debian packages whose program is missing, with one
# "apt-get update". Where it cannot (not root, no apt-get), it says what to run.
#
#   build/packages.sh softhsm2 openssl
set -euo pipefail

# present PACKAGE: is what we want of the package already here?
present() {
  case $1 in
    gcc) command -v gcc && echo '#include <stdlib.h>' | gcc -E - ;;
    libxml2-utils) command -v xmllint ;;
    libxml2-dev) command -v xml2-config ;;
    openssl) command -v openssl ;;
    opensc) command -v pkcs11-tool ;;
    shellcheck) command -v shellcheck ;;
    strace) command -v strace ;;
    softhsm2) command -v softhsm2-util ;;
    opencryptoki) [ -x /usr/sbin/pkcsslotd ] ;;
    p11-kit) command -v p11-kit ;;
    p11-kit-modules) compgen -G '/usr/lib/*/pkcs11/p11-kit-client.so' ;;
    mariadb-server-core) [ -x /usr/sbin/mariadbd ] ;;
    protobuf-compiler) command -v protoc ;;
    protobuf-compiler-grpc) [ -x /usr/bin/grpc_python_plugin ] ;;
    libprotobuf-dev) [ -f /usr/include/google/protobuf/timestamp.proto ] ;;
    python3-grpcio) /usr/bin/python3 -c 'import grpc, google.protobuf' 2>&1 ;;
    mmdebstrap) command -v mmdebstrap ;;
    php-cli) command -v php ;;
    php-curl) php -r 'exit(function_exists("curl_init") ? 0 : 1);' ;;
    php-google-protobuf) [ -f /usr/share/php/Google/Protobuf/Internal/Message.php ] ;;
    default-jdk-headless) command -v javac ;;
    libgrpc-java) [ -f /usr/share/java/grpc-netty.jar ] ;;
    protobuf-compiler-grpc-java-plugin) [ -x /usr/bin/grpc_java_plugin ] ;;
    libprotobuf-java) [ -f /usr/share/java/protobuf.jar ] ;;
    libguava-java) [ -f /usr/share/java/guava.jar ] ;;
    libnetty-java) [ -f /usr/share/java/netty-codec-http2.jar ] ;;
    libnetty-tcnative-java) [ -f /usr/share/java/netty-tcnative.jar ] ;;
    libnetty-tcnative-jni) compgen -G '/usr/lib/*/jni/libnetty-tcnative.so' ;;
    libperfmark-java) [ -f /usr/share/java/perfmark-api.jar ] ;;
    libgeronimo-annotation-1.3-spec-java) [ -f /usr/share/java/geronimo-annotation-1.3-spec.jar ] ;;
    libjsr305-java) [ -f /usr/share/java/jsr305.jar ] ;;
    nodejs) command -v node ;;
    npm) command -v npm ;;
    libp11-kit-dev) [ -f /usr/include/p11-kit-1/p11-kit/pkcs11.h ] ;;
    *)
      echo "build/packages.sh: no idea how to tell whether $1 is here" >&2
      exit 2
      ;;
  esac >/dev/null
}

missing=()
for package in "$@"; do
  present "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi
# The C compiler is of no use without the C library's headers.
if [[ " ${missing[*]} " == *" gcc "* ]]; then
  missing+=(libc6-dev)
fi

if ! command -v apt-get >/dev/null; then
  echo "Missing: ${missing[*]} (names of Debian packages). Install them and run this again." >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "Missing: ${missing[*]}. Install them and run this again:" >&2
  echo "    sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get -q=2 update
apt-get -q=2 -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}"
