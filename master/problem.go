package master

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// problemOf gives any error as the answer that people see. What it does not know stays in the
// log: an error's text may say more of the master than strangers should read.
func problemOf(err error) *api.Error {
	var known *api.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &tooLarge):
		return api.Errorf(api.CodeTooLarge, "the request's body is over %d bytes", tooLarge.Limit)
	case errors.Is(err, store.ErrConflict):
		return api.Errorf(api.CodeConflict, "it has changed since it was read; read it again and retry")
	case errors.Is(err, store.ErrTooLarge):
		return api.Errorf(api.CodeTooLarge, "that is more than the store takes in one transaction: apply fewer resources at once, or raise --max-txn-ops and --max-request-bytes of an etcd cluster of your own")
	case errors.Is(err, store.ErrFull):
		return api.Errorf(api.CodeUnavailable, "the store is full and takes nothing new: delete what is not needed, or restart the masters with a larger --store-quota")
	case errors.Is(err, store.ErrCorrupt):
		return api.Errorf(api.CodeUnavailable, "the masters do not hold the same data and take no writes; GET /readyz names the one to replace")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return api.Errorf(api.CodeUnavailable, "the store cannot do it now; try again")
	}
	return api.Errorf(api.CodeInternal, "the master could not do it; its log says why")
}

// writeProblem answers with an error as application/problem+json (RFC 9457).
func writeProblem(w http.ResponseWriter, e *api.Error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	switch e.Code {
	case api.CodeUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case api.CodeRateLimited:
		if w.Header().Get("Retry-After") == "" {
			again(w, time.Minute)
		}
	case api.CodeUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e) // a client that has gone needs no answer
}

// notFound is the answer for what does not exist and for what is not the caller's to see.
func notFound(k api.Key) error { return api.Errorf(api.CodeNotFound, "there is no %s", k) }
