# Builds the root tree that all lab hosts share. Run by package lab as
#     flock LOCK sh -c SCRIPT build-tree TARGET SUITE PACKAGES SOURCE...
# flock's descriptor is inherited, so the lock is held until this shell ends,
# even if the tool that asked for the tree is killed.
set -eu
target=$1 suite=$2 packages=$3
shift 3
[ ! -d "$target" ] || exit 0
rm -rf "$target".tmp.*
tmp=$target.tmp.$$
trap 'rm -rf "$tmp"' EXIT INT TERM

mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/info/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	"$suite" "$tmp" "$@" >&2

etc=$tmp/etc
: >"$etc/machine-id"
rm -f "$etc/hostname" "$etc/resolv.conf"
echo '# A lab host has no resolver but the one Gearmesh brings.' >"$etc/resolv.conf"

# What a lab host does not need, or what would reach for the outer machine's
# kernel (sysctl, modules, binfmt, debugfs …).
mkdir -p "$etc/systemd/system" "$etc/systemd/journald.conf.d" "$etc/docker" "$tmp/var/log/journal" "$tmp/var/lib/docker"
for unit in getty.target getty@.service serial-getty@.service console-getty.service container-getty@.service \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
	fstrim.timer systemd-pstore.service systemd-sysctl.service \
	systemd-modules-load.service modprobe@.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount \
	proc-sys-fs-binfmt_misc.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
	sys-kernel-config.mount sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount \
	systemd-remount-fs.service systemd-journald-audit.socket systemd-udevd.service \
	systemd-udev-trigger.service systemd-update-utmp.service systemd-resolved.service \
	podman.service podman.socket podman-restart.service podman-auto-update.service podman-auto-update.timer; do
	ln -sf /dev/null "$etc/systemd/system/$unit"
done
# Installed for Gearmesh's router, which writes its configuration first.
rm -f "$etc/systemd/system/multi-user.target.wants/haproxy.service"

# The kernel's log is the outer machine's.
cat >"$etc/systemd/journald.conf.d/lab.conf" <<'CONF'
[Journal]
Storage=persistent
SystemMaxUse=256M
ReadKMsg=no
CONF

mv -T "$tmp" "$target"
