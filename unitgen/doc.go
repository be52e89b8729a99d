// Package unitgen turns a pod into the texts of its systemd units. It is pure.
//
//	gear-shop.slice                       the project
//	gear-shop-web\x2d7f3k2.slice          the pod: its limits; the engine puts its containers here
//	gear-shop-web-7f3k2-net.service       its network namespace and links (oneshot)
//	gear-shop-web-7f3k2.service           its first container: gear-run run UID/CONTAINER
//	gear-shop-web-7f3k2-log.service       another container, called log
//
// A pod never changes, and so neither do its files: systemd loads each when it is first named, and
// no daemon-reload is needed to start a pod. Limits bind the containers through the slice
// (systemd.resource-control(5)) on cgroup v1 and v2 alike.
//
// A unit file is a program that root runs, so every value goes through the printer of its kind
// (printer.go), and ExecStart= carries only ids that we made ourselves.
package unitgen
