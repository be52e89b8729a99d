package dnsd

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits bound what askers can make the server do.
type Limits struct {
	Sockets       int           // UDP sockets, and goroutines, of each address
	Streams       int           // TCP connections at a time
	StrangerTCP   int           // of these, from askers that may not recurse
	AskerTCP      int           // of these, from one address
	StreamQueries int           // queries on one TCP connection
	StreamIdle    time.Duration // a TCP connection is closed when no whole query came for this long; an eighth of it when half of Streams are open
	Forwards      int           // queries at a time that wait for other servers
	AskerForwards int           // of these, of one asker
	ForwardTime   time.Duration // one try at one other server
	Cached        int           // answers of other servers that are kept
	StrangerRate  int           // UDP answers a second to one /24 (IPv6: /56) of strangers; over it every second one is "use TCP", the others are dropped
	PodRate       int           // UDP queries a second of one pod; more are dropped
}

// DefaultLimits suit a host with some hundreds of pods.
func DefaultLimits() Limits {
	return Limits{Sockets: min(runtime.GOMAXPROCS(0), 8), Streams: 256, StrangerTCP: 64, AskerTCP: 32, StreamQueries: 256,
		StreamIdle: 8 * time.Second, Forwards: 512, AskerForwards: 128, ForwardTime: time.Second,
		Cached: 8192, StrangerRate: 100, PodRate: 10_000}
}

// named gives the limits that an operator may change, by their names. Each is at least 1.
func (l *Limits) named() map[string]*int {
	return map[string]*int{"sockets": &l.Sockets, "tcp": &l.Streams, "forwards": &l.Forwards, "cached": &l.Cached,
		"stranger-rate": &l.StrangerRate, "pod-rate": &l.PodRate}
}

// mostLimit is above every sensible limit: more would be memory that is not there.
const mostLimit = 1_000_000

// ParseLimits reads a list such as "stranger-rate=20,cached=50000"; what it does not name stays as by default.
func ParseLimits(list string) (Limits, error) {
	l := DefaultLimits()
	known := l.named()
	for _, word := range words(list) {
		name, value, _ := strings.Cut(word, "=")
		at := known[name]
		if at == nil {
			return l, fmt.Errorf("%q: there is no limit %q; there are %s", word, name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > mostLimit || name == "sockets" && n > 64 {
			return l, fmt.Errorf("%q: want a number of 1 or more, such as %s=%d", word, name, *at)
		}
		*at = n
	}
	l.StrangerTCP, l.AskerTCP = min(l.StrangerTCP, max(1, l.Streams/2)), min(l.AskerTCP, max(1, l.Streams/2))
	return l, nil
}
