#!/usr/bin/env bash
# Installs the package that "make deb" made, goes from there to a signature by the very
# commands of docs/OPERATING.md, and removes it. Needs root, a machine that has no
# roamsign yet, and the Debian packages softhsm2 and openssl.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
package=$PWD/$1

fail() {
  echo "deb-test: $*" >&2
  exit 1
}

[ "$(id -u)" -eq 0 ] || fail "it installs a package: run it as root, on a machine that may be changed"
for there in /etc/roamsign /var/lib/roamsign /usr/bin/roamsignd; do
  [ ! -e "$there" ] || fail "$there is there already: this machine has a roamsign, which is left alone"
done
! getent passwd roamsign >/dev/null || fail "the user roamsign is there already, and is left alone"

home=$(mktemp -d)
daemon=
ended() {
  status=$?
  if [ -n "$daemon" ]; then kill -9 "$daemon" 2>/dev/null || true; fi
  dpkg --purge roamsign >/dev/null 2>&1 || true
  userdel roamsign 2>/dev/null || true
  rm -rf /etc/roamsign /var/lib/roamsign "$home"
  [ "$status" -eq 0 ] || echo "deb-test: FAILED" >&2
}
trap ended EXIT

# The blocks of that kind in the manual; /root is not the test's to write to.
manual() {
  awk -v kind="$1" '$0 == "```bash " kind { on = 1; next } /^```/ { on = 0 } on' docs/OPERATING.md | sed "s#/root/#$home/#g; s#--out /root #--out $home #"
}

dpkg --install "$package" >"$home/dpkg.log" || { cat "$home/dpkg.log"; fail "the package cannot be installed"; }
[ "$(stat -c %U:%a /var/lib/roamsign)" = roamsign:700 ] || fail "/var/lib/roamsign is not the service's alone"

manual install >"$home/install.sh"
[ "$(wc -l <"$home/install.sh")" -gt 30 ] || fail "the manual's commands were not found"
bash -euo pipefail "$home/install.sh" >"$home/install.log" 2>&1 || { cat "$home/install.log" >&2; fail "the manual's commands fail"; }

# As the unit starts it, as far as that goes without systemd.
install -d -o roamsign -g roamsign -m 700 "$home/credentials"
install -o roamsign -g roamsign -m 400 "$home/pin" "$home/credentials/pin"
chmod 711 "$home"
as=(env CREDENTIALS_DIRECTORY="$home/credentials" prlimit --core=0
  setpriv --reuid=roamsign --regid=roamsign --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all)
"${as[@]}" roamsignd check --login --config /etc/roamsign/roamsign.yaml >"$home/check.log" 2>&1 || { cat "$home/check.log" >&2; fail "the service would not start"; }
"${as[@]}" roamsignd serve --config /etc/roamsign/roamsign.yaml 2>"$home/serve.log" &
daemon=$!
for _ in $(seq 300); do
  if grep -q 'msg=serving' "$home/serve.log"; then break; fi
  kill -0 "$daemon" || { cat "$home/serve.log" >&2; fail "the service ended"; }
  sleep 0.1
done

cp testdata/invoice.xml "$home/invoice.xml"
manual sign >"$home/sign.sh"
(cd "$home" && bash -euo pipefail "$home/sign.sh" >"$home/sign.log" 2>&1) || { cat "$home/sign.log" "$home/serve.log" >&2; fail "the manual's commands for signing fail"; }
[ "$(ps -o user= -p "$daemon")" = roamsign ] || fail "the service does not run as roamsign"
for secret in "$home/pin" "$home/so-pin"; do
  ! grep -rqF "$(cat "$secret")" "$home"/*.log /etc/roamsign /var/lib/roamsign || fail "a PIN stands in a log or a file"
done

kill -TERM "$daemon"
wait "$daemon" || fail "the service did not stop in order: $?"
daemon=
dpkg --remove roamsign >>"$home/dpkg.log" 2>&1
[ ! -e /usr/bin/roamsignd ] || fail "the program is there although the package was removed"
dpkg --purge roamsign >>"$home/dpkg.log" 2>&1
[ -d /var/lib/roamsign/audit ] || fail "purging the package took the log with it"
[ -f /etc/roamsign/audit.key ] || fail "purging the package took a key with it"
[ -z "$(find /usr/share/doc/roamsign /usr/lib/systemd/system/roamsignd.service 2>/dev/null)" ] || fail "the package left files"
echo "deb-test: installed, used and removed $(basename "$package")"
