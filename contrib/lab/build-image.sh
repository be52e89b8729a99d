# Builds the root of a container image from Debian packages. Run by package lab as
#     flock LOCK sh -c SCRIPT build-image TARGET SUITE PACKAGES SOURCE...
# where flock's descriptor is inherited, so the lock lasts as long as this shell.
set -eu
target=$1 suite=$2 packages=$3
shift 3
[ ! -e "$target" ] || exit 0
rm -f "$target".tmp.*
tmp=$target.tmp.$$
trap 'rm -f "$tmp"' EXIT INT TERM

mmdebstrap --quiet --mode=root --variant=essential --format=tar --include="$packages" \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/info/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--customize-hook='rm -rf "$1"/etc/apt/sources.list* "$1"/etc/hostname "$1"/etc/resolv.conf' \
	"$suite" "$tmp" "$@" >&2
mv -T "$tmp" "$target"
