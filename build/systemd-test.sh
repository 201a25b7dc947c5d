#!/usr/bin/env bash
# Has systemd, as the first process of a small Debian of its own, run the package that
# "make deb" made: by the manual's commands, and through all that the unit promises.
# Needs root, cgroup v2 (beside v1 will do), and the Debian package mmdebstrap, which
# fetches some 60 MB. What it makes is a scratch folder, and goes with it.
#
#   build/systemd-test.sh PACKAGE
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "systemd-test: $*" >&2
  exit 1
}

# The first process of its own namespaces: makes what a container has, and becomes systemd.
if [ "$1" = --boot ]; then
  root=$2
  mount --make-rprivate /
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  ln -s /proc/self/fd "$root/dev/fd"
  mkdir "$root/dev/shm"
  mount -t tmpfs tmpfs "$root/dev/shm"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs tmpfs "$root/tmp"
  cd "$root"
  mkdir -p .before
  pivot_root . .before
  umount -l .before
  mount --make-rshared / # as systemd does where it is the machine's; credentials come this way
  exec env -i container=systemd-test /lib/systemd/systemd --log-target=journal
fi

package=$PWD/$1
[ "$(id -u)" -eq 0 ] || fail "it makes namespaces and mounts: run it as root"
home=$(mktemp -d)
group=
ended() {
  status=$?
  if [ -n "$group" ] && [ -d "$group" ]; then
    echo 1 >"$group/cgroup.kill" || true
    { wait; } 2>/dev/null || true
    for _ in $(seq 100); do # they take a moment to be gone
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ -d "$group" ] || break
      sleep 0.1
    done
  fi
  [ ! -d "$home/groups" ] || umount "$home/groups" || true
  rm -rf --one-file-system "$home"
  [ "$status" -eq 0 ] || echo "systemd-test: FAILED" >&2
}
trap ended EXIT

# A machine like this one, as far as its C library goes.
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
mmdebstrap --quiet --variant=apt --include=systemd-sysv,softhsm2,openssl "$codename" "$home/root" >"$home/debian.log" 2>&1 ||
  { cat "$home/debian.log" >&2; fail "no Debian could be made"; }
cp "$package" "$home/root/root/roamsign.deb"
cp docs/OPERATING.md testdata/invoice.xml build/systemd-inside.sh "$home/root/root"

# A control group of its own, so that all of it can be ended at once.
mkdir "$home/groups"
mount -t cgroup2 cgroup2 "$home/groups" || fail "there is no cgroup v2"
group=$home/groups/roamsign-systemd-test.$$
mkdir "$group"
(
  echo 0 >"$group/cgroup.procs"
  exec unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup "$PWD/build/systemd-test.sh" --boot "$home/root"
) </dev/null >"$home/boot.log" 2>&1 &
disown # so that its end, which is ours to bring, is not told

# systemd is the one process whose parent is unshare.
first=
for _ in $(seq 300); do
  first=$(cat "/proc/$!/task/$!/children" 2>/dev/null | tr -d ' ') || first=
  if [ -n "$first" ] && [ "$(cat "/proc/$first/comm" 2>/dev/null)" = systemd ]; then break; fi
  kill -0 $! 2>/dev/null || { cat "$home/boot.log" >&2; fail "systemd ended"; }
  sleep 0.1
done
inside() { timeout 300 nsenter --target "$first" --all env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"; }
inside bash /root/systemd-inside.sh || { tail -50 "$home/boot.log" >&2; fail "see above"; }
