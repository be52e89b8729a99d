// Package systemd talks to the host's systemd over D-Bus, and writes unit files. No other package
// imports D-Bus.
//
// It uses systemd's own socket, /run/systemd/private, so it works without a dbus-daemon; only root
// may. The connection is made when it is needed and made again after systemd was re-executed.
//
// Unit files are written whole and durably, and only when they differ: systemd takes a file
// of 0 bytes, which a power cut can leave, for a masked unit. A file that systemd has not loaded yet needs no
// daemon-reload; Refresh asks for one only when a file was replaced that systemd has loaded.
package systemd
