package lab

import (
	"bytes"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHierarchies(t *testing.T) {
	const mounts = "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
	tests := map[string]struct {
		mountinfo string
		want      []hierarchy
		err       string
	}{
		"pure v2": {
			mountinfo: mounts + "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
			want:      []hierarchy{{"/sys/fs/cgroup", "cgroup2", "rw", "."}},
		},
		"hybrid": {
			mountinfo: mounts +
				"31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"32 24 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
				"33 24 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd\n" +
				"34 24 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			want: []hierarchy{
				{"/sys/fs/cgroup/memory", "cgroup", "memory", "memory"},
				{"/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct", "cpu,cpuacct"},
				{"/sys/fs/cgroup/systemd", "cgroup", "none,name=systemd", "systemd"},
				{"/sys/fs/cgroup/unified", "cgroup2", "rw", "unified"},
			},
		},
		"mounted twice, and a part of one": {
			mountinfo: "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n" +
				"31 24 0:26 / /mnt/again rw - cgroup2 cgroup2 rw\n" +
				"32 24 0:26 /docker/x /mnt/part rw - cgroup2 cgroup2 rw\n",
			want: []hierarchy{{"/sys/fs/cgroup", "cgroup2", "rw", "."}},
		},
		"v1 without systemd": {
			mountinfo: "31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			err:       "none,name=systemd",
		},
		"nothing": {mountinfo: mounts, err: "no cgroup hierarchy"},
		"junk":    {mountinfo: " - \n- - -\n1 2 3\n", err: "no cgroup hierarchy"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := hierarchies(tt.mountinfo)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got error %v, want %q", err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got)\n%s", err, diff)
			}
		})
	}
}

func FuzzHierarchies(f *testing.F) {
	f.Add("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	f.Fuzz(func(t *testing.T, mountinfo string) {
		hs, err := hierarchies(mountinfo)
		if err == nil && len(hs) == 0 {
			t.Error("no hierarchy and no error")
		}
	})
}

func TestConfigRefuses(t *testing.T) {
	tests := map[string]struct {
		config Config
		want   string
	}{
		"no name":         {Config{}, `lab name ""`},
		"capital":         {Config{Name: "Demo"}, `lab name "Demo"`},
		"dash":            {Config{Name: "a-b"}, "lab name"},
		"path":            {Config{Name: "../x"}, "lab name"},
		"too long":        {Config{Name: "abcdefghijklm"}, "1 to 12"},
		"wide subnet":     {Config{Name: "a", Subnet: netip.MustParsePrefix("10.0.0.0/16")}, "24 bits"},
		"host bits":       {Config{Name: "a", Subnet: netip.MustParsePrefix("10.0.0.1/24")}, "24 bits"},
		"ipv6":            {Config{Name: "a", Subnet: netip.MustParsePrefix("fd00::/24")}, "IPv4"},
		"relative dir":    {Config{Name: "a", StateDir: "x"}, "absolute path"},
		"comma in dir":    {Config{Name: "a", CacheDir: "/a,b"}, "without comma"},
		"package option":  {Config{Name: "a", Packages: []string{"--hook=x"}}, "not a Debian package name"},
		"two packages":    {Config{Name: "a", Packages: []string{"a,b"}}, "not a Debian package name"},
		"suite an option": {Config{Name: "a", Suite: "--help"}, "Debian release"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := New(tt.config)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestHostIndex(t *testing.T) {
	for name, want := range map[string]int{"h1": 1, "h12": 12, "h200": 200} {
		if got, err := hostIndex(name); err != nil || got != want {
			t.Errorf("%q: got %d, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "h", "h0", "h01", "h201", "x1", "h1/..", "h-1", "H1", "h1\n"} {
		if _, err := hostIndex(name); err == nil {
			t.Errorf("%q was taken for a host", name)
		}
	}
}

func TestSortedHosts(t *testing.T) {
	l, err := New(Config{Name: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range l.sortedHosts([]string{"h10", "h2", "lost+found", "h2"}, netip.MustParsePrefix("10.99.3.0/24")) {
		got = append(got, h.scope+" "+h.addr.String())
	}
	if want := []string{"gl-demo-h2 10.99.3.12", "gl-demo-h10 10.99.3.20"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSubnets(t *testing.T) {
	taken := []netip.Prefix{netip.MustParsePrefix("10.99.0.0/23"), netip.MustParsePrefix("10.99.2.7/32"), netip.MustParsePrefix("fe80::/64")}
	if got, err := chooseSubnet(taken); err != nil || got.String() != "10.99.3.0/24" {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := chooseSubnet([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); err == nil {
		t.Error("found room where there is none")
	}
	if err := checkSubnet(netip.MustParsePrefix("10.99.1.0/24"), taken); err == nil || !strings.Contains(err.Error(), "10.99.0.0/23") {
		t.Errorf("overlap: %v", err)
	}
}

func TestParseRoutes(t *testing.T) {
	got, err := parseRoutes([]byte(`[{"dst":"default","gateway":"192.0.2.1"},{"dst":"192.0.2.0/24"},{"type":"local","dst":"127.0.0.1"},{"dst":"0.0.0.0/0"}]`))
	want := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.1/32")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if _, err := parseRoutes([]byte("Error:")); err == nil {
		t.Error("took junk for routes")
	}
}

func TestParseStat(t *testing.T) {
	text := "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 100 200"
	if status, start := parseStat(text); status != "S" || start != "987654" {
		t.Errorf("got %q, %q", status, start)
	}
	for _, text := range []string{"", "42 (x", "42 (x) S 1"} {
		if status, start := parseStat(text); status != "" || start != "" {
			t.Errorf("%q: got %q, %q", text, status, start)
		}
	}
}

func TestReadProcessRefusesJunk(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	for _, text := range []string{"", "12", "x y z", "1 2 3", "-5 2 3"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := readProcess(file); err == nil {
			t.Errorf("%q was taken for %+v", text, p)
		}
	}
}

// A pid alone must never be enough: it may be somebody else's by now.
func TestAliveWantsTheVeryProcess(t *testing.T) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	_, start := procStat(os.Getpid())
	self := process{pid: os.Getpid(), start: start, boot: strings.TrimSpace(string(boot))}
	if !self.alive() {
		t.Error("this process is not alive")
	}
	other, rebooted := self, self
	other.start, rebooted.boot = "1", "another"
	if other.alive() || rebooted.alive() {
		t.Error("a process of another time counts as this one")
	}
}

func TestImageRefuses(t *testing.T) {
	tests := map[string]Image{
		"want repository and tag": {Name: "web", Binary: "/x"},
		"0 are given":             {Name: "web:1"},
		"2 are given":             {Name: "web:1", Binary: "/x", Dir: "/y"},
		"not a Debian package":    {Name: "web:1", Packages: []string{"a b"}},
		"exposed port":            {Name: "web:1", Binary: "/x", Ports: []string{"80"}},
	}
	for want, image := range tests {
		if err := image.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", image, err, want)
		}
	}
}

func TestDirTarDependsOnFilesOnly(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		if err := os.WriteFile(filepath.Join(dir, "x"), []byte("same"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	first, err := dirTar(a)
	if err != nil {
		t.Fatal(err)
	}
	second, err := dirTar(b)
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("two equal directories differ: %v", err)
	}
}

func TestPutFile(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	put := func(text string) fs.FileInfo {
		t.Helper()
		if err := putFile(root, "usr/local/bin/x", strings.NewReader(text), 0o755); err != nil {
			t.Fatal(err)
		}
		info, err := root.Stat("usr/local/bin/x")
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	one := put("one")
	if one.Mode() != 0o755 {
		t.Errorf("mode is %v", one.Mode())
	}
	if !os.SameFile(one, put("one")) {
		t.Error("an unchanged file was written again")
	}
	two := put("second")
	if os.SameFile(one, two) {
		t.Error("a changed file was written over, not replaced")
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "usr/local/bin")); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestHostTexts(t *testing.T) {
	l, err := New(Config{Name: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	subnet := netip.MustParsePrefix("10.99.0.0/24")
	text := hostsFile(l.sortedHosts([]string{"h1", "h2"}, subnet), registryAddr(subnet).Addr())
	if !strings.HasSuffix(text, "10.99.0.11\th1\n10.99.0.12\th2\n") {
		t.Errorf("hosts file:\n%s", text)
	}
	if text := dockerConfig(registryAddr(subnet)); !strings.Contains(text, `"10.99.0.1:5000"`) || !strings.Contains(text, `"live-restore": true`) {
		t.Errorf("docker's configuration:\n%s", text)
	}
}

func TestMountsBelow(t *testing.T) {
	const info = "1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 / /l/demo rw - x y z\n3 1 8:1 / /l/demo/a rw - x y z\n4 1 8:1 / /l/demo/a/bb rw - x y z\n5 1 8:1 / /l/demo2/a rw - x y z\n"
	if got, want := mountsBelow(info, "/l/demo"), []string{"/l/demo/a/bb", "/l/demo/a"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
