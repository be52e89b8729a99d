// Package lab makes N real systemd hosts on one machine, in seconds and
// without virtual machines. It is to Gearmesh what kind is to Kubernetes: the
// demo, the end-to-end tests and the fault tests run on it.
//
// Each host has systemd as process 1, its own journal, dockerd and netfilter,
// and its own mount, pid, uts, ipc, cgroup and network namespaces. Its root is
// an overlay over one Debian tree that mmdebstrap makes once and the cache
// keeps. Hosts are called h1, h2 … and the lab's network looks like this:
//
//	outer machine          network namespace gl-LAB            network namespace gl-LAB-h1
//	gl-LAB (.2)  ────────  up0 ─ br0 (.1, registry :5000) ─ h1 ────────  eth0 (.11)
//
// The switch lives in a namespace of its own, so the outer machine's firewall
// never sees the hosts' frames and the lab adds no rule to it; the outer
// machine reaches every host directly by address. There is no way from a host
// to the internet: the switch answers "network unreachable" at once.
//
// What a host is made of is found again by name (namespaces gl-LAB-…, cgroups
// gl-LAB-…) and by the state directory, never by what a process remembers, so
// [Lab.Down] cleans up after a killed command too. The package changes one
// thing of the outer machine that it leaves behind: it raises
// fs.inotify.max_user_instances, and says so.
package lab
