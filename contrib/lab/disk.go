package lab

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gearmesh.dev/internal/hostexec"
)

// diskDirs are the directories of a host that [Config.Disk] puts on a file system of their own.
// start-host.sh mounts them.
func diskDirs() []string { return []string{"var/lib/gear", "etc/systemd/system"} }

// makeImage makes the file that holds a host's own file system, unless there is one. It is sparse:
// it takes what is written, not what it may hold. No block is kept back for root, so that full is full.
func (l *Lab) makeImage(ctx context.Context, h host) error {
	file := h.file("disk.img")
	if l.cfg.Disk == 0 || exists(file) {
		return nil
	}
	tmp := file + ".tmp"
	f, err := os.Create(tmp)
	if err == nil {
		err = errors.Join(f.Truncate(l.cfg.Disk<<20), f.Close())
	}
	if err != nil {
		return fmt.Errorf("making the disk of host %q: %w", h.name, err)
	}
	if _, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"mkfs.ext4", "-q", "-F", "-m", "0", tmp}}); err != nil {
		return fmt.Errorf("making the disk of host %q: %w", h.name, err)
	}
	return os.Rename(tmp, file)
}

// The ioctl that ends an ext4 as a power cut does, and its flag "without writing the journal out"
// (the kernel's fs/ext4/ext4.h: EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH).
const (
	ext4Shutdown   = 0x8004587d
	ext4NoLogFlush = 2
)

// PowerCut is PowerOff with the loss of what was written and not synced: the hosts' own file
// systems (Config.Disk) stop at what has reached their disk, before the processes end.
func (l *Lab) PowerCut(ctx context.Context, names ...string) error {
	return l.each(ctx, names, func(ctx context.Context, h host) error {
		if err := h.loseUnsynced(); err != nil {
			return err
		}
		return l.wipe(ctx, h)
	})
}

// FailDisk makes the hosts' own file systems give an error to every access, as a disk that is pulled
// out does, until they are off and on again. The hosts run on.
func (l *Lab) FailDisk(ctx context.Context, names ...string) error {
	return l.each(ctx, names, func(_ context.Context, h host) error { return h.loseUnsynced() })
}

func (h host) loseUnsynced() error {
	p, ok := h.running()
	if !ok || !exists(h.file("disk.img")) {
		return fmt.Errorf("cutting the power of host %q: want a host that runs, with a disk of its own (Config.Disk)", h.name)
	}
	dir, err := os.Open(fmt.Sprintf("/proc/%d/root/%s", p.pid, diskDirs()[0]))
	if err != nil {
		return fmt.Errorf("cutting the power of host %q: %w", h.name, err)
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), ext4Shutdown, ext4NoLogFlush); err != nil {
		return fmt.Errorf("cutting the power of host %q: ending its file system: %w", h.name, err)
	}
	return nil
}
