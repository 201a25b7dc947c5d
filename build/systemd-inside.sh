#!/usr/bin/env bash
# The part of build/systemd-test.sh that runs beside systemd: root in a Debian that may
# be changed, with the package, the manual and an invoice in /root.
set -euo pipefail
cd /root

fail() {
  echo "systemd-test: $*" >&2
  systemctl status --no-pager --lines=0 roamsignd.service roamsignd.socket >&2 || true
  journalctl --no-pager --lines=60 | grep -v Configuration.cpp >&2 || true # SoftHSM's chatter
  exit 1
}
passed() { echo "systemd-test: $*"; }
# The blocks of that kind in the manual.
manual() { awk -v kind="$1" '$0 == "```bash " kind { on = 1; next } /^```/ { on = 0 } on' OPERATING.md; }
of() { systemctl show --value --property="$1" "${2:-roamsignd.service}"; }
# until SECONDS COMMAND...
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}
replaced() { [ "$(of MainPID)" != "$1" ] && [ "$(of ActiveState)" = active ]; }
said() { journalctl --no-pager --output=cat --unit=roamsignd.service --after-cursor="$cursor" | grep -F "$1" >/dev/null; }
mark() { cursor=$(journalctl --no-pager --lines=1 --show-cursor | sed -n 's/^-- cursor: //p'); }

until_true 60 systemctl is-system-running --quiet 2>/dev/null || fail "the machine does not come up: $(systemctl is-system-running)"

dpkg --install roamsign.deb >dpkg.log || fail "the package cannot be installed: $(cat dpkg.log)"
[ "$(of ActiveState)" = inactive ] || fail "the package started the service"
for kind in install start; do
  manual $kind >$kind.sh
  [ -s $kind.sh ] || fail "the manual has no commands of the kind $kind"
  bash -euo pipefail $kind.sh >$kind.log 2>&1 || fail "the manual's commands ($kind) fail: $(cat $kind.log)"
done
# "enable --now" came back without an error: the service has said that it is ready.
[ "$(of ActiveState):$(of SubState):$(of Type)" = active:running:notify ] || fail "it is not up"
manual sign >sign.sh
bash -euo pipefail sign.sh >sign.log 2>&1 || fail "the manual's commands for signing fail: $(cat sign.log)"
[ ! -e pin ] || fail "the PIN is on the disk"
passed "installed, started (READY=1), and signing, by the manual"

pid=$(of MainPID)
status() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status"; }
holds() { # holds WHAT GOT WANT
  [ "$2" = "$3" ] || fail "$1: got $2, want $3"
}
holds User "$(status Uid | cut -f1)" "$(id -u roamsign)"
holds NoNewPrivileges "$(status NoNewPrivs)" 1
holds SystemCallFilter "$(status Seccomp)" 2
holds CapabilityBoundingSet "$(status CapBnd)" 0000000000000000
holds "its capabilities" "$(status CapEff)" 0000000000000000
holds LimitCORE "$(awk '/^Max core file size/ { print $5, $6 }' "/proc/$pid/limits")" "0 0"
most=$(awk '/^Max open files/ { print $5 }' /proc/1/limits) # that this systemd itself may give
holds LimitNOFILE "$(awk '/^Max open files/ { print $4 }' "/proc/$pid/limits")" "$((most < 65536 ? most : 65536))"
holds UMask "$(status Umask)" 0077
holds "not dumpable, so root's" "$(stat -c %U "/proc/$pid/environ")" root
within() { nsenter --target "$pid" --mount "$@"; }
mounted() { # mounted PATH: how, as the service sees it
  within findmnt --noheadings --output OPTIONS --target "$1" | tail -1
}
for path in / /usr /etc/roamsign /proc/sys /sys/fs/cgroup; do
  [[ ,$(mounted $path), == *,ro,* ]] || fail "$path is not read-only for the service: $(mounted $path)"
done
for path in /var/lib/roamsign /tmp; do
  [[ ,$(mounted $path), == *,rw,* ]] || fail "$path is read-only for the service"
done
[[ $(mounted /proc) == *hidepid=invisible* ]] || fail "ProtectProc: got $(mounted /proc)"
[ -z "$(within ls -A /root 2>/dev/null)" ] || fail "ProtectHome: /root shows $(within ls -A /root)"
[ -z "$(within ls -A /tmp)" ] || fail "PrivateTmp: /tmp shows $(within ls -A /tmp)"
holds "the credential's permissions" "$(stat -c %a:%U /run/credentials/roamsignd.service/pin)" 400:roamsign
group=/sys/fs/cgroup$(of ControlGroup)
if [ -e "$group/memory.swap.max" ]; then
  holds MemorySwapMax "$(cat "$group/memory.swap.max")" 0
else
  passed "not looked at, since cgroup v2 has no memory controller here: MemorySwapMax"
fi
passed "hardening in force"

[ "$(of NRestarts)" = 0 ] || fail "it was restarted before anybody asked"
kill -9 "$pid"
until_true 60 replaced "$pid" || fail "it is not there again after kill -9"
[ "$(of NRestarts)" = 1 ] || fail "kill -9: $(of NRestarts) restarts, want 1"
passed "restarted after kill -9"

mkdir -p /run/systemd/system/roamsignd.service.d
printf '[Service]\nWatchdogSec=5\n' >/run/systemd/system/roamsignd.service.d/test.conf
systemctl daemon-reload
systemctl restart roamsignd || fail "it does not restart"
pid=$(of MainPID)
mark
kill -STOP "$pid"
until_true 90 replaced "$pid" || fail "the watchdog did not replace a process that was stopped"
said "Watchdog timeout" || fail "it was replaced, but not by the watchdog"
rm -r /run/systemd/system/roamsignd.service.d
systemctl daemon-reload
passed "replaced by the watchdog when it gave no signs of life"

# Reload.
mark
systemctl reload roamsignd || fail "it does not reload"
until_true 30 said 'msg="in force" what=policy' || fail "a reload is not told"
passed "reloaded"

# Somebody who connects anew, again and again, and writes down each refusal.
knock() {
  while [ ! -e enough ]; do
    if (exec 3<>/dev/tcp/127.0.0.1/7443) 2>/dev/null; then echo in; else echo refused; fi
    sleep 0.01 # the service puts up with so many who never say who they are
  done >knocks
}
refusals() { grep -c refused knocks || true; }
sign_once() { roamsign --config erp/client.yaml sign --via document --out again invoice.xml >>signs.log 2>&1 && rm -r again; }
manual socket >socket.sh
bash -euo pipefail socket.sh >socket.log 2>&1 || fail "the manual's commands for the socket fail: $(cat socket.log)"
[ "$(of ActiveState)" = active ] || fail "the service is not up behind its socket"
knock &
knocking=$!
for _ in 1 2 3; do
  pid=$(of MainPID)
  systemctl restart roamsignd || fail "it does not restart behind its socket"
  [ "$(of MainPID)" != "$pid" ] || fail "it is the same process after a restart"
  sign_once || fail "it does not sign after a restart: $(tail -1 signs.log)"
done
touch enough
wait "$knocking"
rm enough
holds "connections refused during three restarts" "$(refusals)" 0
passed "restarted three times behind its socket: $(wc -l <knocks) connections, none refused"

# A PIN that the token refuses.
systemctl stop roamsignd.socket roamsignd.service || fail "it does not stop"
cp /etc/credstore.encrypted/pin right
systemctl reset-failed roamsignd.service roamsignd.socket # the restarts above do not count
systemctl start roamsignd.socket
printf 0000 | systemd-creds encrypt --name=pin - /etc/credstore.encrypted/pin 2>>socket.log
mark
knock &
knocking=$!
if systemctl start roamsignd.service 2>>socket.log; then fail "it starts with a wrong PIN"; fi
sleep 12 # more than RestartSec, and than StartLimitIntervalSec (10 s)
touch enough
wait "$knocking"
rm enough
holds "ended with" "$(of ExecMainStatus)" 77
holds "its state" "$(of ActiveState)" failed
tries=$(journalctl --no-pager --output=cat --after-cursor="$cursor" | grep -c 'Starting roamsignd' || true)
holds "times that a wrong PIN was tried" "$tries" 1
holds "its socket" "$(of ActiveState roamsignd.socket)" inactive
passed "not started again after a wrong PIN, by nobody who connects either"

# Once it is put right: an upgrade, while others connect, and the end.
mv right /etc/credstore.encrypted/pin
systemctl start roamsignd.socket roamsignd.service || fail "it does not start with the right PIN again"
pid=$(of MainPID)
knock &
knocking=$!
dpkg --install roamsign.deb >>dpkg.log || fail "the package cannot be installed again"
sign_once || fail "it does not sign after an upgrade: $(tail -1 signs.log)"
touch enough
wait "$knocking"
upgraded=$(of MainPID)
[ "$upgraded" != "$pid" ] || fail "an upgrade leaves the old program running"
holds "connections refused during an upgrade" "$(refusals)" 0
dpkg --remove roamsign >>dpkg.log 2>&1 || fail "the package cannot be removed: $(tail -1 dpkg.log)"
[ ! -e "/proc/$upgraded" ] || fail "the service goes on without its program"
! (exec 3<>/dev/tcp/127.0.0.1/7443) 2>/dev/null || fail "somebody listens although the package was removed"
[ -z "$(find /etc/systemd/system -name 'roamsignd.*')" ] || fail "removing the package left it enabled"
passed "upgraded without a refused connection, and removed"
