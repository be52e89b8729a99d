package volumes

import (
	"fmt"
	"hash/fnv"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
)

// The kernel's words for project quotas (linux/quota.h, linux/fs.h).
const (
	setQuota      = 0x800008<<8 | 2 // QCMD(Q_SETQUOTA, PRJQUOTA)
	limitsValid   = 1               // QIF_BLIMITS
	getAttributes = 0x801c581f      // FS_IOC_FSGETXATTR
	setAttributes = 0x401c5820      // FS_IOC_FSSETXATTR
	inheritFlag   = 0x200           // FS_XFLAG_PROJINHERIT
	quotaBlock    = 1024            // bytes of a block of Q_SETQUOTA
)

// attributes is struct fsxattr.
type attributes struct {
	flags, extentSize, extents, project, cowExtentSize uint32
	_                                                  [8]byte
}

// limits is struct if_dqblk.
type limits struct {
	blocksHard, blocksSoft, space  uint64
	inodesHard, inodesSoft, inodes uint64
	blocksTime, inodesTime         uint64
	valid                          uint32
	_                              uint32
}

// Bound holds a volume to a size, where its file system counts what projects use. Where it does not, nothing happens:
// Unbounded says so. Root only.
func Bound(dir string, size api.Bytes) error {
	mounts, err := os.ReadFile(mountInfo)
	if err != nil || size == 0 {
		return err
	}
	if _, ok := countsProjects(string(mounts), dir); !ok {
		return nil
	}
	id := projectID(dir)
	if err := mark(dir, id); err != nil {
		return fmt.Errorf("marking %q for its quota: %w", dir, err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("setting the quota of %q: %w", dir, err)
	}
	defer f.Close()
	blocks := uint64(size+quotaBlock-1) / quotaBlock
	l := limits{blocksHard: blocks, blocksSoft: blocks, valid: limitsValid}
	// quotactl_fd(2) takes the directory itself, so that nobody has to find its block device (Linux 5.14).
	if _, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), setQuota, uintptr(id), uintptr(unsafe.Pointer(&l)), 0, 0); errno != 0 {
		return fmt.Errorf("setting the quota of %q: %w", dir, errno)
	}
	return nil
}

// projectID gives a volume's number among the projects of its file system. It follows from the path, so that a
// new pod finds the same.
func projectID(dir string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(dir))
	return h.Sum32() | 1<<31 // away from the small numbers that people choose
}

// mark gives a directory, and all that is made in it, to a project.
func mark(dir string, id uint32) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	var a attributes
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), getAttributes, uintptr(unsafe.Pointer(&a))); errno != 0 {
		return errno
	}
	if a.project == id && a.flags&inheritFlag != 0 {
		return nil
	}
	a.project, a.flags = id, a.flags|inheritFlag
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), setAttributes, uintptr(unsafe.Pointer(&a))); errno != 0 {
		return errno
	}
	return nil
}
