package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/backup"
	"gearmesh.dev/master/store"
)

// notKept tells of a key whether it is of the moment: of who leads, what is reached where, and tokens on their way.
func notKept(key string) bool {
	first, _, _ := strings.Cut(key, "/")
	return slices.Contains([]string{"leader", strings.TrimSuffix(masterPrefix, "/"), strings.TrimSuffix(tokenPrefix, "/"), strings.TrimSuffix(pendingPrefix, "/"), healthKey, freshKey}, first)
}

// backup answers POST /v1/backup: everything, encrypted for the recipient that the caller names. It never leaves
// this process as plain text.
func (m *Master) backup(c *call) error {
	var req api.BackupRequest
	if err := api.Decode(c.body, &req); err != nil {
		return err
	}
	if m.cfg.Kit == nil {
		return api.Errorf(api.CodeUnavailable, "this master has no files to back up")
	}
	kit, err := m.cfg.Kit()
	if err != nil {
		return err
	}
	kit.Domain = m.cfg.Domain
	items, revision, err := m.store.List(c.Context(), "")
	if err != nil {
		return err
	}
	sealed, err := backup.Seal(&lateHeader{c: c}, req.Recipient)
	if err != nil {
		return api.Invalid("the request for a backup", []api.Fault{{Field: "recipient", Message: err.Error()}})
	}
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Time{})
	err = writeBackup(sealed, backup.Header{Made: time.Now().UTC().Truncate(time.Second), Version: m.cfg.Version, Revision: revision, Kit: kit}, items)
	if err = errors.Join(err, sealed.Close()); err != nil {
		m.log.Warn("a backup was not taken whole", "error", err)
		panic(http.ErrAbortHandler) // a cut answer must not look like a whole one
	}
	c.object, c.result = "backup", resultCreated
	return nil
}

// lateHeader begins the answer with its first byte, so that an error before it can still be told.
type lateHeader struct {
	c     *call
	begun bool
}

func (l *lateHeader) Write(p []byte) (int, error) {
	if !l.begun {
		l.begun = true
		l.c.w.Header().Set("Content-Type", "application/octet-stream")
		l.c.w.Header().Set("Cache-Control", "no-store")
	}
	return l.c.w.Write(p)
}

func writeBackup(w io.Writer, h backup.Header, items []store.Item) error {
	out, err := backup.NewWriter(w, h)
	if err != nil {
		return err
	}
	for _, it := range items {
		if notKept(it.Key) {
			continue
		}
		if err := out.Add(backup.Item{Key: it.Key, Value: it.Value}); err != nil {
			return err
		}
	}
	return out.Close()
}

// restoredTerms is how far the terms of a restored cluster are above those of the backup: hosts refuse lower ones
// than they have seen, and the old cluster may have gone on after the backup. A term is a revision of the store,
// so this is more than any cluster will have had.
const restoredTerms = 1 << 40

// Restore fills an empty store with the items of a backup. The terms of its leaders will be above all that hosts
// have seen. It gives how many keys there were.
func Restore(ctx context.Context, s store.Store, from *backup.Reader) (int, error) {
	had, _, err := s.List(ctx, "")
	if err != nil {
		return 0, fmt.Errorf("looking whether the store is empty: %w", err)
	}
	if len(had) > 0 {
		return 0, fmt.Errorf("the store is not empty: it has %d keys", len(had))
	}
	base := int64(0)
	var ops []store.Op
	n := 0
	for {
		it, err := from.Next()
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return n, err
		}
		switch {
		case last:
			ops = append(ops, store.Op{Key: termBaseKey, Value: mustJSON(base + from.Header.Revision + restoredTerms), If: store.Absent})
		case it.Key == termBaseKey:
			if err := json.Unmarshal(it.Value, &base); err != nil {
				return n, fmt.Errorf("reading %q of the backup: %w", it.Key, err)
			}
			continue
		case !notKept(it.Key):
			n++
			ops = append(ops, store.Op{Key: it.Key, Value: it.Value, If: store.Absent})
		}
		if last || len(ops) == maxBatch {
			if _, err := s.Txn(ctx, ops...); err != nil {
				return n, err
			}
			ops = nil
		}
		if last {
			return n, nil
		}
	}
}
