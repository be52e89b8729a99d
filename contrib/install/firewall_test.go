package install

import "testing"

func TestFirewalldAdvice(t *testing.T) {
	want := openings(true, true)
	for _, c := range []struct {
		ports, trusted []string
		want           string
	}{
		{nil, []string{"lo"}, "firewalld runs; unless it lets them in already, open it for pods and other hosts with: firewall-cmd --permanent --zone=trusted --add-interface=gv+ && " +
			"firewall-cmd --permanent --add-port=7444/tcp --add-port=7946/tcp --add-port=7946/udp --add-port=7443/tcp --add-port=2380/tcp --add-port=80/tcp && firewall-cmd --reload"},
		{want[1:], []string{"gv+"}, "firewalld runs; unless it lets them in already, open it for pods and other hosts with: firewall-cmd --permanent --add-port=7444/tcp && firewall-cmd --reload"},
		{want, []string{"gv+"}, ""},
	} {
		if got := firewalldAdvice(want, c.ports, c.trusted); got != c.want {
			t.Errorf("with %q and %q:\n%s\nwant\n%s", c.ports, c.trusted, got, c.want)
		}
	}
}

func TestUfwAdvice(t *testing.T) {
	for status, want := range map[string]string{
		"": "", "Status: inactive\n": "",
		"Status: active\n": "ufw runs; unless it lets them in already, open it for other hosts with: ufw allow 7444/tcp && ufw allow 7946/tcp && ufw allow 7946/udp",
		"Status: active\n\nTo                         Action      From\n--                         ------      ----\n" +
			"22,7444/tcp                ALLOW       Anywhere\n7946                       ALLOW       192.0.2.0/24\n7444,22/tcp (v6)           ALLOW       Anywhere (v6)\n": "",
		"Status: active\n7444/tcp  DENY  Anywhere\n7946/tcp  ALLOW IN  Anywhere\n": "ufw runs; unless it lets them in already, open it for other hosts with: ufw allow 7444/tcp && ufw allow 7946/udp",
	} {
		if got := ufwAdvice(openings(false, false), status); got != want {
			t.Errorf("with %q:\n%s\nwant\n%s", status, got, want)
		}
	}
}
