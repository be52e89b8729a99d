# Starts one lab host. Run by package lab as
#     setsid -f unshare -m -p -u -i --fork --propagation private sh start-host.sh
# in the host's network namespace, so this shell is process 1 of a new pid namespace and ends up as the host's systemd.
#
#   LAB_HOST     host name
#   LAB_DIR      the host's directory: upper, work, docker, root, pid
#   LAB_TREE     the shared root tree, the overlay's lower layer
#   LAB_CGROUPS  the host's cgroup directories on the outer machine, one a line
#   LAB_MOUNTS   what to mount in the host: "TYPE OPTIONS NAME", one a line;
#                NAME is a directory below /sys/fs/cgroup, or "." for pure v2
#   LAB_DISK_DIRS  the directories that live in the host's disk.img, if it has one, one a line
set -eu

# Stage 1 still sees the outer machine's mounts. It joins the host's cgroups
# (0 is "myself" in any pid namespace) BEFORE the cgroup namespace is made,
# since that namespace takes the current cgroups as its roots. The outer /proc
# knows this process by its outer pid, which is what the pid file must hold.
if [ "${1:-}" != stage2 ]; then
	# A machine's systemd may have opened far more files than this shell may.
	ulimit -Hn 524288 2>/dev/null || true
	for dir in $LAB_CGROUPS; do echo 0 >"$dir/cgroup.procs"; done
	read -r line </proc/self/stat
	read -r boot </proc/sys/kernel/random/boot_id
	set -- $line
	echo "$1 ${22} $boot" >"$LAB_DIR/pid.tmp"
	mv "$LAB_DIR/pid.tmp" "$LAB_DIR/pid"
	exec unshare -C sh "$LAB_DIR/start-host.sh" stage2
fi

root=$LAB_DIR/root
mount -t overlay -o "lowerdir=$LAB_TREE,upperdir=$LAB_DIR/upper,workdir=$LAB_DIR/work" overlay "$root"
# overlay2 cannot have its own upper layer on an overlay: docker gets a real directory.
mkdir -p "$root/var/lib/docker"
mount --bind "$LAB_DIR/docker" "$root/var/lib/docker"

# A host's own file system, for faults of disks. What a directory had before moves there once.
if [ -e "$LAB_DIR/disk.img" ]; then
	disk=$LAB_DIR/disk
	mkdir -p "$disk"
	mount -t ext4 -o loop "$LAB_DIR/disk.img" "$disk"
	for dir in $LAB_DISK_DIRS; do
		mkdir -p "$root/$dir"
		if [ ! -e "$disk/$dir" ]; then
			mkdir -p "$disk/$dir.new"
			cp -a "$root/$dir/." "$disk/$dir.new/"
			mv "$disk/$dir.new" "$disk/$dir"
		fi
		mount --bind "$disk/$dir" "$root/$dir"
	done
	umount -l "$disk"
fi

# /proc/sys outside of net is the outer machine's: read-only, as systemd-nspawn has it.
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
if [ -e "$root/proc/sysrq-trigger" ]; then
	mount --bind "$root/proc/sysrq-trigger" "$root/proc/sysrq-trigger"
	mount -o remount,bind,ro "$root/proc/sysrq-trigger"
fi

mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
case $LAB_MOUNTS in
*" .") ;;
*) mount -t tmpfs -o nosuid,nodev,noexec,mode=755 tmpfs "$root/sys/fs/cgroup" ;;
esac
echo "$LAB_MOUNTS" | while read -r type options name; do
	mkdir -p "$root/sys/fs/cgroup/$name"
	mount -t "$type" -o "$options" cgroup "$root/sys/fs/cgroup/$name"
	# Controllers mounted together are also found by their single names.
	case $name in
	*,*) for one in $(echo "$name" | tr , ' '); do ln -s "$name" "$root/sys/fs/cgroup/$one"; done ;;
	esac
done

mount -t tmpfs -o nosuid,mode=755 tmpfs "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/full" c 1 7
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/tty" c 5 0
mknod -m 666 "$root/dev/fuse" c 10 229
mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm"
mknod -m 666 "$root/dev/net/tun" c 10 200
mount -t devpts -o newinstance,nosuid,noexec,mode=620,gid=5,ptmxmode=666 devpts "$root/dev/pts"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$root/run"

# Every boot of a host is a boot of its own to journald and to leases.
cat "$root/proc/sys/kernel/random/uuid" >"$root/run/boot_id"
chmod 444 "$root/run/boot_id"
mount --bind "$root/run/boot_id" "$root/proc/sys/kernel/random/boot_id"
mount -o remount,bind,ro "$root/proc/sys/kernel/random/boot_id"
rm "$root/run/boot_id"

hostname "$LAB_HOST"
echo 1 >/proc/sys/net/ipv4/ip_forward

# pivot_root onto itself: the old root lies under the new one and is detached,
# with every mount of the outer machine.
cd "$root"
pivot_root . .
umount -l .
cd /
exec env -i container=gearlab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd
