package geard

import (
	"fmt"
	"net/url"
	"testing"
)

func TestBeforeLast(t *testing.T) {
	for name, tc := range map[string]struct {
		marks []runMark
		want  string
	}{
		"nothing":  {nil, "[]"},
		"one run":  {[]runMark{{"p/a", "1", "i1"}}, "[]"},
		"adopted":  {[]runMark{{"p/a", "1", "i1"}, {"p/a", "1", "i2"}}, "[]"},
		"two runs": {[]runMark{{"p/a", "1", "i1"}, {"p/a", "1", "i2"}, {"p/a", "2", "i3"}}, "[i1 i2]"},
		"the rest": {[]runMark{{"p/a", "1", "i1"}, {"p/a", "2", "i2"}, {"p/a", "3", "i3"}, {"p/a", "3", "i4"}}, "[i2]"},
		"two containers": {[]runMark{{"p/a", "1", "i1"}, {"p/b", "8", "j1"}, {"p/a", "2", "i2"}, {"q/a", "9", "k1"}, {"p/b", "10", "j2"}},
			"[i1 j1]"},
	} {
		if got := fmt.Sprint(beforeLast(tc.marks)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// The lines are a kernel's own (6.1), of a pod that went over its limit beside one that did.
func TestKernelLines(t *testing.T) {
	keep := kernelLines(`gear-shop-web\x2d1.slice`)
	for _, tc := range []struct {
		text string
		want bool
	}{
		{`python invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0`, false},
		{`oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=docker-1.scope,mems_allowed=0,oom_memcg=/gear.slice/gear-shop.slice/gear-shop-web\x2d2.slice,task_memcg=/x,task=python,pid=41,uid=0`, false},
		{`Memory cgroup out of memory: Killed process 41 (python) total-vm:1kB`, false},
		{`oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=docker-2.scope,mems_allowed=0,oom_memcg=/gear.slice/gear-shop.slice/gear-shop-web\x2d1.slice,task_memcg=/x,task=python,pid=42,uid=0`, true},
		{`Memory cgroup out of memory: Killed process 42 (python) total-vm:1kB`, true},
		{`Memory cgroup out of memory: Killed process 421 (python) total-vm:1kB`, false},
		{`eth0: link up`, false},
	} {
		if got := keep(tc.text); got != tc.want {
			t.Errorf("%v for %s", got, tc.text)
		}
	}
}

func TestReadLogAsk(t *testing.T) {
	for text, want := range map[string]string{
		"project=shop&pod=web-1":       `["GEAR_PROJECT=shop" "GEAR_POD=web-1" "_TRANSPORT=stdout"]`,
		"host=1":                       `[]`,
		"host=1&unit=gear-agent":       `["_SYSTEMD_UNIT=gear-agent.service" "+" "_PID=1" "UNIT=gear-agent.service"]`,
		"":                             `project: `,
		"project=a%0AGEAR_POD=b":       `project: `,
		"project=shop&pod=../x":        `pod: `,
		"host=1&unit=a%20b":            `unit: "a b" is no name of a unit`,
		"project=shop&tail=-1":         `tail: "-1" is no number of lines`,
		"project=shop&since=yesterday": `since: "yesterday" is no duration; write one such as 10m`,
		"project=shop&grep=(":          `grep: "(" is no regular expression`,
		"project=shop&pod=web-1&system=1&container": `["GEAR_PROJECT=shop" "GEAR_POD=web-1" "_TRANSPORT=stdout" "+" "_PID=1" "UNIT=gear-shop-web\\x2d1.slice" "+" "_PID=1" "UNIT=gear-shop-web-1-net.service" "+" "_PID=1" "UNIT=gear-shop-web-1.service" "+" "_TRANSPORT=kernel"]`,
	} {
		v, err := url.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		ask, err := readLogAsk(v)
		got := fmt.Sprintf("%q", ask.query.Match)
		if err != nil {
			got = err.Error()
		}
		if len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
