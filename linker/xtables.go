package linker

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the kernel tells of a table of iptables-legacy (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h, the same for both).
const (
	xtInfo    = 64 // IPT_SO_GET_INFO
	xtEntries = 65 // IPT_SO_GET_ENTRIES

	sizeInfo    = 84 // struct ipt_getinfo, the size of the entries last
	sizeEntries = 40 // struct ipt_get_entries without its entries, the size of these at 32

	sizeCounters = 16 // struct xt_counters
)

// tableEntry says where in an entry of a table things are.
type tableEntry struct{ next, counters int }

func entryOf(family uint8) tableEntry {
	if family == unix.AF_INET6 {
		return tableEntry{next: 142, counters: 152} // struct ip6t_entry
	}
	return tableEntry{next: 90, counters: 96} // struct ipt_entry
}

// tableMark gives the mark of one table: a hash of its entries, without what they have counted. fd is any internet socket of the namespace.
func tableMark(fd int, p place) (mark, error) {
	info := make([]byte, sizeInfo)
	copy(info, p.table)
	if err := getTable(fd, p.family, xtInfo, info); err != nil {
		return 0, err
	}
	size := int(binary.NativeEndian.Uint32(info[sizeInfo-4:]))
	all := make([]byte, sizeEntries+size)
	copy(all, p.table)
	binary.NativeEndian.PutUint32(all[32:], uint32(size))
	if err := getTable(fd, p.family, xtEntries, all); err != nil { // EAGAIN when it has another size by now
		return 0, err
	}
	return hashEntries(all[sizeEntries:], entryOf(p.family))
}

func hashEntries(all []byte, at tableEntry) (mark, error) {
	h := fnv.New64a()
	for len(all) > 0 {
		n := 0
		if len(all) >= at.counters+sizeCounters {
			n = int(binary.NativeEndian.Uint16(all[at.next:]))
		}
		if n < at.counters+sizeCounters || n > len(all) {
			return 0, errors.New("the kernel gave a table that ends in the middle of an entry")
		}
		h.Write(all[:at.counters])
		h.Write(all[at.counters+sizeCounters : n])
		all = all[n:]
	}
	return mark(h.Sum64()), nil
}

// getTable is getsockopt(2) with a request in the buffer of the answer.
func getTable(fd int, family uint8, option int, buf []byte) error {
	level := unix.SOL_IP
	if family == unix.AF_INET6 {
		level = unix.SOL_IPV6
	}
	size := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
