#!/bin/sh
# Puts Debian's nginx and nchan into .bench/nchan, without root and without installing them. `make bench-peers` runs it.
# An nginx with nchan that the system has already is used as it is.
set -eu

target=$(cd "$(dirname "$0")/../.." && pwd)/.bench/nchan
module=usr/lib/nginx/modules/ngx_nchan_module.so
[ -e "$target/$module" ] && exit 0
[ -e "/$module" ] && command -v nginx >/dev/null && exit 0
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
  echo 'nchan: this is no Debian system; install nginx with nchan yourself to have this peer' >&2
  exit 1
}

draft=$target.new
rm -rf "$draft" && mkdir -p "$draft/packages"
cd "$draft/packages"
apt-get download -q nginx libnginx-mod-nchan || {
  echo 'nchan: its packages cannot be had; apt may need one `apt-get update`, which needs root' >&2
  exit 1
}
for package in *.deb; do dpkg-deb -x "$package" "$draft"; done
# nchan creates this folder at every start, needed or not, and its setting for another place is refused as a duplicate.
# A name of the same length without a leading slash lies below nginx's prefix.
sed -i 's#/var/lib/nginx/body#nchan_message_store#' "$draft/$module"
missing=$(ldd "$draft/usr/sbin/nginx" "$draft/$module" | awk '/not found/ {print $1}' | sort -u)
[ -z "$missing" ] || {
  echo "nchan: nginx needs libraries that are not on this system: $missing" >&2
  exit 1
}
rm -rf "$draft/packages" "$target" && mv "$draft" "$target"
echo "nchan: in $target"
