// Command web is the guestbook's HTTP server: it counts visits in redis.
//
// The only address it knows of redis is localhost:6379: the link of its service decides where
// that leads, and can change it while this process runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	listen   = ":8080"
	database = "localhost:6379"
	counter  = "visits"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	log.SetFlags(0) // journald knows the time
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	db := redis.NewClient(&redis.Options{Addr: database, DialTimeout: time.Second, ReadTimeout: time.Second, MaxRetries: 5,
		MaxRetryBackoff: 200 * time.Millisecond})
	defer db.Close()
	server := &http.Server{Addr: listen, Handler: handler(db, name), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			log.Printf("ending open requests: %v", err)
		}
	})
	defer stop()
	log.Printf("%s listens on %s and counts in %s", name, listen, database)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func handler(db *redis.Client, name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		n, err := db.Incr(r.Context(), counter).Result()
		if err != nil {
			log.Printf("counting a visit: %v", err)
			http.Error(w, "the database does not answer: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		log.Printf("visit %d from %s", n, r.RemoteAddr)
		fmt.Fprintf(w, "visit %d, served by %s\n", n, name)
	})
	return mux
}
