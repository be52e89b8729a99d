package journal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gearmesh.dev/internal/journal"
)

// fakeJournal puts a journalctl in the path that has the entries 1 to 9, and 10 and 11 for who follows; it notes its arguments.
func fakeJournal(t *testing.T) (args func() string) {
	dir := t.TempDir()
	script := `#!/bin/sh
echo "$@" >> ` + dir + `/args
i=1; n=9
case "$*" in *--after-cursor=c9*--follow*) i=10; n=11;; *--follow*) n=11;; esac
while [ $i -le $n ]; do
	echo "{\"__CURSOR\":\"c$i\",\"__REALTIME_TIMESTAMP\":\"$i\",\"MESSAGE\":\"line $i\"}"
	i=$((i+1))
done
`
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	return func() string {
		text, _ := os.ReadFile(filepath.Join(dir, "args"))
		return string(text)
	}
}

func TestSelect(t *testing.T) {
	odd := func(e journal.Entry) bool { return (e.Text[len(e.Text)-1]-'0')%2 == 1 }
	for _, tc := range []struct {
		tail   int
		follow bool
		want   string
	}{
		{journal.All, false, "1 3 5 7 9"},
		{2, false, "7 9"},
		{99, false, "1 3 5 7 9"},
		{0, false, ""},
		{2, true, "7 9 11"},
		{0, true, "11"},
		{journal.All, true, "1 3 5 7 9 11"},
	} {
		args := fakeJournal(t)
		var got []string
		for e, err := range journal.Select(t.Context(), journal.Query{Tail: tc.tail, Follow: tc.follow}, odd) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.TrimPrefix(e.Text, "line "))
		}
		if fmt.Sprint(got) != "["+tc.want+"]" {
			t.Errorf("tail %d, follow %v: %v, want %s; asked\n%s", tc.tail, tc.follow, got, tc.want, args())
		}
	}
}
