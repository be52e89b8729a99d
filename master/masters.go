package master

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/loop"
	"gearmesh.dev/master/store"
)

// masterRecord is what a master says of itself in the store.
type masterRecord struct {
	Address netip.AddrPort `json:"address"` // of its API
	Version string         `json:"version,omitempty"`
}

// mastersLocked gives the masters that have said where they are, sorted by name.
func (c *cache) mastersLocked() []api.MasterEntry {
	var out []api.MasterEntry
	for name, r := range c.masters {
		out = append(out, api.MasterEntry{Name: name, Address: r.Address})
	}
	slices.SortFunc(out, func(a, b api.MasterEntry) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// introduce writes where this master is reached, for hosts and clients, unless that is known.
func (m *Master) introduce(ctx context.Context) {
	name, rec := api.Name(m.cfg.Name), masterRecord{Address: m.cfg.Address, Version: m.cfg.Version}
	if !rec.Address.IsValid() || name.Validate() != nil {
		return // one that nobody else has to find
	}
	for m.cache.wait(ctx, 0) == nil {
		m.cache.mu.RLock()
		was := m.cache.masters[name]
		m.cache.mu.RUnlock()
		if was == rec {
			return
		}
		_, err := m.txn(ctx, store.Op{Key: masterPrefix + string(name), Value: mustJSON(rec), If: store.Any})
		if err == nil || !loop.Sleep(ctx, time.Second) {
			return
		}
	}
}

// listMasters answers GET /v1/masters.
func (m *Master) listMasters(c *call) error {
	m.cache.mu.RLock()
	known := map[api.Name]masterRecord{}
	for name, r := range m.cache.masters {
		known[name] = r
	}
	m.cache.mu.RUnlock()
	out, err := m.members(c.Context())
	if err != nil {
		return err
	}
	for i := range out.Items {
		x := &out.Items[i]
		r := known[x.Name]
		x.Address, x.Version = r.Address, r.Version
		delete(known, x.Name)
	}
	if m.cluster == nil {
		for name, r := range known {
			out.Items = append(out.Items, api.Master{Name: name, Address: r.Address, Version: r.Version, State: api.MasterOutside})
		}
	}
	leader := m.leaderName(c.Context())
	for i := range out.Items {
		x := &out.Items[i]
		x.Leads, x.Answers = string(x.Name) == leader && leader != "", string(x.Name) == m.cfg.Name
	}
	slices.SortFunc(out.Items, func(a, b api.Master) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Peer, b.Peer)) })
	return c.answer(http.StatusOK, out)
}

// members gives the masters as the store's members.
func (m *Master) members(ctx context.Context) (api.MasterList, error) {
	out := api.MasterList{Items: []api.Master{}}
	if m.cluster == nil {
		return out, nil
	}
	list, err := m.cluster.Members(ctx)
	if err != nil {
		return out, err
	}
	for _, x := range list {
		state := api.MasterVoter
		switch {
		case x.Name == "":
			state = api.MasterJoining
		case x.Learner:
			state = api.MasterLearner
		}
		out.Items = append(out.Items, api.Master{Name: api.Name(x.Name), State: state, Peer: x.Peer})
	}
	return out, nil
}

// leaderName gives who leads, as far as the store tells; "" when nobody does or it cannot.
func (m *Master) leaderName(ctx context.Context) string {
	name, err := m.store.Leader(ctx)
	if err != nil {
		m.log.Debug("asking the store who leads", "error", err)
	}
	return name
}

// admitMaster answers POST /v1/masters: a host with a token for it becomes another master.
func (m *Master) admitMaster(c *call) error {
	var req api.MasterJoin
	if err := api.Decode(c.body, &req); err != nil {
		return err
	}
	if faults := masterFaults(&req); len(faults) > 0 {
		return api.Invalid("the request to become a master", faults)
	}
	token, err := m.redeem(c, req.Token, forMasterToken, "master "+string(req.Name))
	if err != nil {
		return err
	}
	if m.cluster == nil || m.cfg.Kit == nil {
		return api.Errorf(api.CodeInvalid, "the store is an etcd of your own: set up the new master with the same --etcd-endpoints and the files of %s", "/var/lib/gear/master")
	}
	kit, err := m.cfg.Kit()
	if err != nil {
		return err
	}
	if kit.Seat, err = m.cluster.Admit(c.Context(), string(req.Name), req.Address); err != nil {
		return masterProblem(err)
	}
	// The token is used up last: until here nothing was handed over, and it can be tried again.
	if _, err := m.store.Txn(c.Context(), token.use("master "+string(req.Name))); err != nil {
		return err
	}
	kit.Domain = m.cfg.Domain
	c.object, c.result = "master "+string(req.Name), resultCreated
	return c.answer(http.StatusCreated, kit)
}

func masterFaults(req *api.MasterJoin) []api.Fault {
	var faults []api.Fault
	if err := req.Name.Validate(); err != nil {
		faults = append(faults, api.Fault{Field: "name", Message: err.Error()})
	}
	if a := req.Address; !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		faults = append(faults, api.Fault{Field: "address", Message: "an address is needed at which other masters reach this one, such as 10.0.0.5"})
	}
	return faults
}

// masterProblem gives the errors of a change of the members as people see them: they say what to do.
func masterProblem(err error) error {
	switch {
	case errors.Is(err, store.ErrTaken):
		return api.Errorf(api.CodeExists, "%v", err)
	case errors.Is(err, store.ErrNotReady):
		return api.Errorf(api.CodeUnavailable, "%v", err)
	case errors.Is(err, store.ErrNotFound):
		return api.Errorf(api.CodeNotFound, "there is no such master; gear master list names them")
	}
	return err
}

// isMaster tells whether a master of the name is known.
func (c *cache) isMaster(name api.Name) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, known := c.masters[name]
	return known
}

// removeMaster answers DELETE /v1/masters/{name}.
func (m *Master) removeMaster(c *call) error {
	name := c.name("name")
	known := m.cache.isMaster(name)
	if m.cluster != nil {
		err := m.cluster.Remove(c.Context(), string(name))
		gone := known && errors.Is(err, store.ErrNotFound) // its record is what is left of it
		if err != nil && !gone {
			return masterProblem(err)
		}
	} else if !known {
		return masterProblem(store.ErrNotFound)
	}
	if _, err := m.txn(c.Context(), erase(masterPrefix+string(name))); err != nil {
		return err
	}
	c.object, c.result = "master "+string(name), resultDeleted
	return c.answer(http.StatusOK, api.Master{Name: name, State: api.MasterJoining})
}

// removeSeat answers DELETE /v1/masters?peer=HOST:PORT: the seat of a master that never came.
func (m *Master) removeSeat(c *call) error {
	peer := c.URL.Query().Get("peer")
	if _, err := netip.ParseAddrPort(peer); err != nil || m.cluster == nil {
		return api.Errorf(api.CodeBadRequest, "say which: peer=ADDRESS:PORT, as gear master list shows it")
	}
	if err := m.cluster.Remove(c.Context(), peer); err != nil {
		return masterProblem(err)
	}
	c.object, c.result = "seat "+peer, resultDeleted
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// masterRoutes are the routes of the masters themselves.
func (m *Master) masterRoutes() []route {
	return []route{
		{id: "listMasters", method: "GET", path: "/v1/masters", who: forPeople, summary: "The masters", answer: reflect.TypeFor[api.MasterList](), handle: m.listMasters},
		{id: "joinMaster", method: "POST", path: "/v1/masters", who: forAnybody, audit: true, summary: "Become another master, with a token for it",
			body: reflect.TypeFor[api.MasterJoin](), limit: 64 << 10, status: http.StatusCreated, answer: reflect.TypeFor[api.MasterKit](), handle: m.admitMaster},
		{id: "removeSeat", method: "DELETE", path: "/v1/masters", who: forPeople, audit: true, summary: "Take back the seat of a master that never came",
			status: http.StatusNoContent, query: []queryParam{{"peer", "its address and port"}}, handle: m.removeSeat},
		{id: "removeMaster", method: "DELETE", path: "/v1/masters/{name}", who: forPeople, audit: true, summary: "Remove a master, dead or alive",
			answer: reflect.TypeFor[api.Master](), handle: m.removeMaster},
		{id: "createBackup", method: "POST", path: "/v1/backup", who: forPeople, audit: true, summary: "Everything of the cluster, encrypted for an age key",
			body: reflect.TypeFor[api.BackupRequest](), octets: true, handle: m.backup},
	}
}
