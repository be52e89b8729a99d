package runner

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// servingStatus is HealthCheckResponse.ServingStatus of grpc.health.v1.
type servingStatus uint64

func (s servingStatus) String() string {
	switch s {
	case 0:
		return "UNKNOWN"
	case serving:
		return "SERVING"
	case 2:
		return "NOT_SERVING"
	case 3:
		return "SERVICE_UNKNOWN"
	}
	return fmt.Sprintf("status %d", uint64(s))
}

const serving servingStatus = 1

// maxHealth bounds the answer of a health service; a real one has 7 bytes.
const maxHealth = 4 << 10

// grpc asks grpc.health.v1.Health/Check over HTTP/2 without TLS
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). It is written by hand because a
// gRPC library would cost each gear-run more memory than all the rest of it.
func (c checker) grpc(ctx context.Context, address string) error {
	conn, err := c.dial(ctx, address)
	if err != nil {
		return fmt.Errorf("grpc check: %w", err)
	}
	defer conn.Close()
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		Protocols:              &h2c,
		MaxResponseHeaderBytes: 64 << 10,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/grpc.health.v1.Health/Check", bytes.NewReader(healthRequest(c.check.GRPC.Service)))
	if err != nil {
		return fmt.Errorf("grpc check: %w", err)
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"gear-run"}}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("grpc check: %w", err)
	}
	defer resp.Body.Close()
	if err := healthAnswer(resp); err != nil {
		return fmt.Errorf("grpc check: %w", err)
	}
	return nil
}

// healthAnswer reads an answer: HTTP status, the message, and the status in the trailer or, without a message, in the header.
func healthAnswer(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealth))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers HTTP %d; is it a gRPC server without TLS?", resp.StatusCode)
	}
	code, message := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if code == "" {
		code, message = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	switch code {
	case "0":
	case "5":
		return errors.New("the health service does not know that service (NOT_FOUND)")
	case "12":
		return errors.New("the server has no grpc.health.v1.Health (UNIMPLEMENTED)")
	default:
		return fmt.Errorf("the server answers gRPC status %s: %s", oneLine(code, 20), oneLine(message, 200))
	}
	s, err := healthResponse(body)
	if err != nil {
		return err
	}
	if s != serving {
		return fmt.Errorf("the server is %s", s)
	}
	return nil
}

// healthRequest is a HealthCheckRequest{1: service} with the prefix of a gRPC message: not compressed, its length.
func healthRequest(service string) []byte {
	var m []byte
	if service != "" {
		m = binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service)))
		m = append(m, service...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
}

// healthResponse reads a HealthCheckResponse{1: status} with its prefix. The default of an enumeration is 0.
func healthResponse(b []byte) (servingStatus, error) {
	if len(b) < 5 || b[0] != 0 || binary.BigEndian.Uint32(b[1:]) != uint32(len(b)-5) {
		return 0, fmt.Errorf("the answer of %d bytes is no uncompressed gRPC message", len(b))
	}
	var status servingStatus
	for b = b[5:]; len(b) > 0; {
		field, value, n := protobufField(b)
		if n <= 0 {
			return 0, errors.New("the answer is no HealthCheckResponse")
		}
		if field == 1<<3 {
			status = servingStatus(value)
		}
		b = b[n:]
	}
	return status, nil
}

// protobufField reads a field's key and, when it is a varint, its value; n is its length, or 0 when it is damaged
// (https://protobuf.dev/programming-guides/encoding/).
func protobufField(b []byte) (key, value uint64, n int) {
	key, n = binary.Uvarint(b)
	if n <= 0 {
		return 0, 0, 0
	}
	v, m := binary.Uvarint(b[n:])
	switch key & 7 {
	case 0:
		if m <= 0 {
			return 0, 0, 0
		}
		return key, v, n + m
	case 1:
		return fits(b, key, n+8)
	case 2:
		if m <= 0 || v > maxHealth {
			return 0, 0, 0
		}
		return fits(b, key, n+m+int(v))
	case 5:
		return fits(b, key, n+4)
	}
	return 0, 0, 0
}

func fits(b []byte, key uint64, n int) (uint64, uint64, int) {
	if n > len(b) {
		return 0, 0, 0
	}
	return key, 0, n
}
