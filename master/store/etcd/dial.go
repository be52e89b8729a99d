package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"gearmesh.dev/master/store"
)

// Cluster names an outside etcd cluster.
type Cluster struct {
	Endpoints []string    // URLs, such as https://10.0.0.1:2379
	TLS       *tls.Config // client certificate and the cluster's CA; nil for plain http
	Prefix    string      // of all keys; "/gearmesh/" when empty
}

// Dial uses an outside etcd cluster.
func Dial(ctx context.Context, c Cluster, logger *slog.Logger) (*Store, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints, TLS: c.TLS, Context: ctx, DialTimeout: 5 * time.Second,
		MaxCallSendMsgSize: store.MaxBytes + 1<<20, // the cluster's own bound decides
		DialKeepAliveTime:  5 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		Logger: zap.New(slogCore{logger}),
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to etcd at %q: %w", c.Endpoints, err)
	}
	if c.Prefix == "" {
		c.Prefix = prefix
	}
	return newStore(client, c.Prefix, func() error { return ignoreCancelled(client.Close()) }), nil
}
