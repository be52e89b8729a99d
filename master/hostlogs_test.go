package master

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"gearmesh.dev/api"
)

// Logs outlive pods: of a name that the master does not know, every host is asked.
func TestLogsOfWhatIsGone(t *testing.T) {
	c, _ := logCluster(t, func(host string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			v := r.URL.Query()
			if r.URL.Path != "/v1/logs" || v.Get("project") != "shop" || v.Get("grep") != "x+" {
				t.Errorf("%s is asked for %s", host, r.URL)
			}
			for i, pod := range []api.Name{"web-old", "web-old", "other"} {
				if host == "h1" && v.Get("pod") != "nosuch" {
					_ = json.NewEncoder(w).Encode(api.LogLine{Time: at(i), Project: "forged", Service: "web", Pod: pod, Text: fmt.Sprint("line ", i)})
				}
			}
		}
	})
	w := c.ann().stream("/v1/projects/shop/logs?pod=web-old&grep=x%2B")
	var got []api.LogLine
	for l := (api.LogLine{}); w.next(&l); l = (api.LogLine{}) {
		got = append(got, l)
	}
	if texts(got) != "line 0 line 1" || got[0].Project != "shop" || got[0].Pod != "web-old" || got[0].Host != "h1" {
		t.Errorf("got %+v", got)
	}
	c.ann().must("GET", "/v1/projects/shop/logs?pod=nosuch&grep=x%2B", nil, http.StatusNotFound).problem(t)
	c.ann().must("GET", "/v1/projects/shop/logs?grep=(", nil, http.StatusBadRequest).problem(t)
	c.ann().must("GET", "/v1/projects/shop/logs?previous=maybe", nil, http.StatusBadRequest).problem(t)
}

func TestLogsOfAHost(t *testing.T) {
	c, _ := logCluster(t, func(host string) http.HandlerFunc {
		if host == "h2" {
			return nil
		}
		return func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(api.LogLine{Host: "forged", Source: "systemd", Text: "asked " + r.URL.RawQuery})
		}
	})
	var l api.LogLine
	if w := c.ann().stream("/v1/hosts/h1/logs?unit=gear-agent&tail=3"); !w.next(&l) || l.Host != "h1" || l.Source != "systemd" || l.Text != "asked host=1&tail=3&unit=gear-agent" {
		t.Errorf("got %+v", l)
	}
	e := c.ann().must("GET", "/v1/hosts/h2/logs", nil, http.StatusServiceUnavailable).problem(t)
	if !strings.Contains(e.Detail, "h2") {
		t.Errorf("got %+v", e)
	}
	c.ann().must("GET", "/v1/hosts/nosuch/logs", nil, http.StatusNotFound).problem(t)
}
