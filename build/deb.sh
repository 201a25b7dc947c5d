#!/usr/bin/env bash
# Makes dist/roamsign_VERSION_ARCH.deb of bin/roamsign and bin/roamsignd. Of
# programs that are the same, the same commit makes the same package.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(git describe --tags --match 'v[0-9]*' --exact-match 2>/dev/null | sed 's/^v//') || version=
if [ -z "$version" ]; then
  version=0.1.0~git$(git log -1 --format=%cd --date=format:%Y%m%d).$(git rev-parse --short=9 HEAD)
fi
architecture=$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
umask 022

install -D -m 755 -t "$tree/usr/bin" bin/roamsign bin/roamsignd
install -D -m 644 -t "$tree/usr/lib/systemd/system" deploy/roamsignd.service deploy/roamsignd.socket
install -D -m 644 -t "$tree/etc/roamsign" deploy/roamsign.yaml
install -D -m 644 -t "$tree/usr/share/doc/roamsign" README.md docs/*.md
install -D -m 644 -t "$tree/usr/share/doc/roamsign/examples" deploy/alerts.yaml deploy/grafana.json
install -D -m 644 LICENSE "$tree/usr/share/doc/roamsign/copyright"
install -D -m 755 -t "$tree/DEBIAN" deploy/deb/postinst deploy/deb/prerm deploy/deb/postrm
echo /etc/roamsign/roamsign.yaml >"$tree/DEBIAN/conffiles"

# The C library is all that roamsignd is linked with; the newest of its symbols says which.
glibc=$(readelf --wide --dyn-syms bin/roamsignd | grep -o 'GLIBC_2\.[0-9]*' | sort -Vu | tail -1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" \
  -e "s/@DEPENDS@/libc6 (>= ${glibc#GLIBC_})/" \
  -e "s/@SIZE@/$(du -k -s --apparent-size "$tree" | cut -f1)/" \
  deploy/deb/control >"$tree/DEBIAN/control"
(cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"

mkdir -p dist
package=dist/roamsign_${version}_$architecture.deb
dpkg-deb -Zgzip --root-owner-group --build "$tree" "$package" >/dev/null
echo "$package"
