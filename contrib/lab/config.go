package lab

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// MaxHosts is how many hosts a lab can have: h1 has address .11, h200 .210.
const MaxHosts = 200

// Config says which lab is meant and what its hosts get. Only Name has no
// default.
type Config struct {
	// Name of the lab: 1–12 lower-case letters and digits, starting with a
	// letter, for example "demo". Network interfaces carry it, hence short.
	Name string
	// Subnet is an IPv4 /24 for the lab's network. The default is the first of
	// 10.99.0.0/24, 10.99.1.0/24 … that overlaps no address, route or other
	// lab of this machine. It is fixed when the lab is made.
	Subnet netip.Prefix
	// StateDir holds one directory a lab, with the hosts' disks; it must lie
	// on a real filesystem, not on an overlay. Default /var/lib/gear-lab.
	StateDir string
	// CacheDir holds the root trees and images made of Debian packages.
	// Default /var/cache/gear-lab.
	CacheDir string
	// Binaries are files of this machine that every host gets in
	// /usr/local/bin at each Up and Boot, if they differ.
	Binaries []string
	// Packages are Debian packages for the hosts besides [TreePackages].
	Packages []string
	// Suite is the Debian release of the hosts. Default: that of this
	// machine if it is a Debian, else "bookworm".
	Suite string
	// AptSources are the files that say where Debian packages come from.
	// Default: this machine's /etc/apt/sources.list and sources.list.d.
	AptSources []string
	// Disk, if not 0, is the size in MiB of an ext4 file system of each host's own, in a file, that holds
	// its /var/lib/gear and /etc/systemd/system: it can be full, and can lose what was not synced
	// ([Lab.PowerCut]). It is made with the host.
	Disk int64
	// Progress is told of each finished step; nil means nobody listens. It
	// is called from several goroutines, one call at a time.
	Progress func(Step)
	// Log gets warnings; nil means they are dropped.
	Log *slog.Logger
}

// Step is one finished step of a longer verb.
type Step struct {
	Host    string // "h1", or "" for the lab as a whole
	What    string // for example "booted"
	Elapsed time.Duration
}

var (
	labName  = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)
	suiteArg = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	// Debian Policy 5.6.1.
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
)

// withDefaults fills what is empty and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	if c.StateDir == "" {
		c.StateDir = "/var/lib/gear-lab"
	}
	if c.CacheDir == "" {
		c.CacheDir = "/var/cache/gear-lab"
	}
	if c.Suite == "" {
		c.Suite = ownSuite("/etc/os-release")
	}
	if c.AptSources == nil {
		c.AptSources = ownSources("/etc/apt")
	}
	if c.Progress == nil {
		c.Progress = func(Step) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, c.validate()
}

func (c Config) validate() error {
	var errs []error
	if !labName.MatchString(c.Name) {
		errs = append(errs, fmt.Errorf("lab name %q: want 1 to 12 lower-case letters and digits, a letter first, like \"demo\"", c.Name))
	}
	if c.Subnet.IsValid() && (!c.Subnet.Addr().Is4() || c.Subnet.Bits() != 24 || c.Subnet != c.Subnet.Masked()) {
		errs = append(errs, fmt.Errorf("lab subnet %q: want an IPv4 network of 24 bits, like \"10.99.0.0/24\"", c.Subnet))
	}
	if !suiteArg.MatchString(c.Suite) {
		errs = append(errs, fmt.Errorf("suite %q: want a Debian release, like \"bookworm\"", c.Suite))
	}
	if c.Disk < 0 {
		errs = append(errs, fmt.Errorf("disk of %d MiB: want 0 for none, or a size", c.Disk))
	}
	for _, dir := range []string{c.StateDir, c.CacheDir} {
		// The overlay's option string splits at these.
		if !filepath.IsAbs(dir) || strings.ContainsAny(dir, ",:\\ \t\n") {
			errs = append(errs, fmt.Errorf("directory %q: want an absolute path without comma, colon, backslash or blank", dir))
		}
	}
	for _, p := range c.Packages {
		errs = append(errs, validPackage(p))
	}
	return errors.Join(errs...)
}

func validPackage(name string) error {
	if !packageName.MatchString(name) {
		return fmt.Errorf("package %q: not a Debian package name", name)
	}
	return nil
}

// ownSuite reads the release name of this machine from an os-release(5) file.
func ownSuite(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "bookworm"
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[key] = strings.Trim(value, `"`)
	}
	if fields["ID"] != "debian" || fields["VERSION_CODENAME"] == "" {
		return "bookworm"
	}
	return fields["VERSION_CODENAME"]
}

// ownSources lists the apt source files below dir that apt itself would read:
// those ending in .list or .sources.
func ownSources(dir string) []string {
	files := []string{}
	for _, pattern := range []string{"sources.list", "sources.list.d/*.list", "sources.list.d/*.sources"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err == nil {
			files = append(files, found...)
		}
	}
	return files
}
