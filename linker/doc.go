// Package linker puts links and host ports into the kernel, as iptables rules.
//
// A link makes another service appear on a pod's localhost: connections to 127.0.0.1:5432 are
// translated, in the pod's own network namespace, to one of the service's backends on some host.
// A host port is the other end: connections to it are translated to a pod. Nothing is in the data
// path but the kernel, and a link is retargeted while the program that uses it runs on.
//
// Deciding is pure: PodPlan and HostPlan give a complete set of Rules. Apply puts a set into a
// network namespace, in one iptables-restore and only where it differs; Update does it without
// looking, for a caller who knows what is there. Cut and Flush then end the flows that the
// change has made wrong, since rules decide for new flows only. Every chain is named GEAR-…;
// the rules of others are never touched, and each of their chains gets at most one jump, its first rule.
//
// In a pod's namespace the kernel needs, before the first Apply:
//
//	net.ipv4.conf.eth0.route_localnet = 1
//
// (Documentation/networking/ip-sysctl.rst), because a flow that a program started to 127.0.0.1
// leaves on eth0. On the host it stays 0. Both drop packets to 127.0.0.0/8 that come from outside (CVE-2020-8558).
//
// A host needs net.ipv4.ip_forward = 1. With isolated ports on a bridge it also needs
// net.bridge.bridge-nf-call-iptables = 0: with br_netfilter the kernel translates a frame before it leaves the
// bridge, finds that it goes back there, and hands it from port to port, which isolation forbids
// (net/bridge/br_netfilter_hooks.c, bridged_dnat); pods then cannot reach host ports of their own host. With a
// routed veth for each pod instead, HostConfig.Bridge is "gv+" and br_netfilter has no part in it.
//
// Only netip addresses, port numbers, interface and resource names of checked grammar, and our own
// chain names reach the text for iptables-restore, so that no input can add a rule.
package linker
