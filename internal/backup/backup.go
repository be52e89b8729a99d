// Package backup is the form of a master's backup: all keys of the store as of one revision, and the files that
// make a master. As plain text it is JSON lines (a Header, an Item each, an end that counts them); it leaves
// a master only encrypted (seal.go), since it holds the CA's key.
package backup

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"gearmesh.dev/api"
)

// format is the version of the form.
const format = 1

// Header is the first line.
type Header struct {
	Format   int           `json:"gearmeshBackup"`
	Made     time.Time     `json:"made"`
	Version  string        `json:"version"`  // of the program that made it
	Revision int64         `json:"revision"` // of the store
	Kit      api.MasterKit `json:"kit"`
}

// Item is one key of the store.
type Item struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// line is any line after the first.
type line struct {
	*Item
	End *int `json:"end,omitempty"`
}

// maxLine bounds a line: a value of the store has at most 1.5 MiB, in base64 2.
const maxLine = 4 << 20

// Writer writes a backup. Close ends it; without that it does not count as one.
type Writer struct {
	out *json.Encoder
	n   int
}

// NewWriter writes the header.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	out := &Writer{out: json.NewEncoder(w)}
	h.Format = format
	return out, out.out.Encode(h)
}

// Add writes an item.
func (w *Writer) Add(it Item) error {
	w.n++
	return w.out.Encode(line{Item: &it})
}

// Close writes the end.
func (w *Writer) Close() error { return w.out.Encode(line{End: &w.n}) }

// Reader reads a backup.
type Reader struct {
	Header Header
	in     *bufio.Scanner
	n      int
}

// NewReader reads the header.
func NewReader(r io.Reader) (*Reader, error) {
	in := &Reader{in: bufio.NewScanner(r)}
	in.in.Buffer(make([]byte, 64<<10), maxLine)
	if !in.in.Scan() {
		return nil, in.broken()
	}
	if err := json.Unmarshal(in.in.Bytes(), &in.Header); err != nil || in.Header.Format == 0 {
		return nil, errors.New("this is no backup of a master")
	}
	if in.Header.Format != format {
		return nil, fmt.Errorf("the backup has format %d; this program reads %d", in.Header.Format, format)
	}
	return in, nil
}

// Next gives the next item; io.EOF after the last one of a backup that is whole.
func (r *Reader) Next() (Item, error) {
	if !r.in.Scan() {
		return Item{}, r.broken()
	}
	var l line
	if err := json.Unmarshal(r.in.Bytes(), &l); err != nil || l.Item == nil && l.End == nil {
		return Item{}, fmt.Errorf("the backup is damaged after %d keys", r.n)
	}
	if l.End == nil {
		r.n++
		return *l.Item, nil
	}
	if *l.End != r.n || r.in.Scan() {
		return Item{}, fmt.Errorf("the backup is damaged: it has %d keys and says %d", r.n, *l.End)
	}
	return Item{}, io.EOF
}

func (r *Reader) broken() error {
	if err := r.in.Err(); err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	return fmt.Errorf("the backup ends too early, after %d keys", r.n)
}
