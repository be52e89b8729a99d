package api

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

func TestNewLinkFeed(t *testing.T) {
	links := []LinkTarget{
		{Service: "db", PortName: "sql", Local: netip.MustParseAddr("127.1.0.1"), Port: 5432, Protocol: TCP, Localhost: true, Retarget: Drain,
			Backends: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:20001"), netip.MustParseAddrPort("10.0.0.3:20002")}, Weights: []int{1, 3}},
		{Service: "mail", Project: "infra", Local: netip.MustParseAddr("127.1.0.2"), Port: 25, Protocol: TCP, Mode: LinkBalanced, Reason: ReasonNotOffered,
			Via: netip.MustParseAddrPort("10.127.0.1:30000")},
	}
	got, err := json.Marshal(NewLinkFeed(7, "shop", "web-1", links))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{`{"id":7,"project":"shop","pod":"web-1","links":[`,
		`{"name":"db","service":"db","project":"shop","port":"sql","localPort":5432,"protocol":"tcp","addresses":["127.0.0.1:5432","127.1.0.1:5432"],"mode":"direct","available":true,`,
		`"backends":[{"address":"10.0.0.2:20001","weight":1},{"address":"10.0.0.3:20002","weight":3}]},`,
		`{"name":"mail","service":"mail","project":"infra","localPort":25,"protocol":"tcp","addresses":["127.1.0.2:25"],"mode":"balanced","available":false,"reason":"`, string(ReasonNotOffered), `","backends":[]}]}`}, "")
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, _ := json.Marshal(NewLinkFeed(1, "shop", "web-1", nil)); string(got) != `{"id":1,"project":"shop","pod":"web-1","links":[]}` {
		t.Errorf("without links it is %s", got)
	}
}
