package systemd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	godbus "github.com/godbus/dbus/v5"
)

// signal encodes a signal of systemd's.
func signal(t *testing.T, order binary.ByteOrder, path, iface, member string, body ...any) []byte {
	t.Helper()
	headers := map[godbus.HeaderField]godbus.Variant{godbus.FieldPath: godbus.MakeVariant(godbus.ObjectPath(path)),
		godbus.FieldInterface: godbus.MakeVariant(iface), godbus.FieldMember: godbus.MakeVariant(member), godbus.FieldSignature: godbus.MakeVariant(godbus.SignatureOf(body...))}
	return encode(t, order, &godbus.Message{Type: godbus.TypeSignal, Headers: headers, Body: body})
}

func encode(t *testing.T, order binary.ByteOrder, m *godbus.Message) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.EncodeTo(&b, order); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func reply(t *testing.T, order binary.ByteOrder, body ...any) []byte {
	t.Helper()
	headers := map[godbus.HeaderField]godbus.Variant{godbus.FieldReplySerial: godbus.MakeVariant(uint32(7))}
	if len(body) > 0 {
		headers[godbus.FieldSignature] = godbus.MakeVariant(godbus.SignatureOf(body...))
	}
	return encode(t, order, &godbus.Message{Type: godbus.TypeMethodReply, Headers: headers, Body: body})
}

// systemdSays gives the connection's end that reads what systemd has written, after the authentication.
func systemdSays(t *testing.T, r io.Reader) *jobSignals {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	go io.Copy(io.Discard, theirs)
	s := &jobSignals{Conn: ours, in: bufio.NewReader(r)}
	if _, err := s.Write([]byte("BEGIN\r\n")); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestJobSignals: answers and ends of jobs come through, whole and in order, and other signals do not.
func TestJobSignals(t *testing.T) {
	const manager, properties = "org.freedesktop.systemd1.Manager", "org.freedesktop.DBus.Properties"
	long := strings.Repeat("x", 10_000)
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		changed := signal(t, order, "/org/freedesktop/systemd1/unit/a", properties, "PropertiesChanged", "org.freedesktop.systemd1.Unit", map[string]godbus.Variant{"X": godbus.MakeVariant(long)}, []string{})
		removed := signal(t, order, "/org/freedesktop/systemd1", manager, "JobRemoved", uint32(3), godbus.ObjectPath("/job/3"), "a.service", "done")
		all := slices.Concat(changed, reply(t, order), changed, changed, removed, signal(t, order, "/org/freedesktop/systemd1", manager, "UnitNew", "a.service"), reply(t, order, long), changed)
		for name, r := range map[string]io.Reader{"at once": bytes.NewReader(all), "byte by byte": iotest.OneByteReader(bytes.NewReader(all)), "in halves": iotest.HalfReader(bytes.NewReader(all))} {
			s := systemdSays(t, r)
			var got []string
			for {
				m, err := godbus.DecodeMessage(s)
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Errorf("%v, %s: %v", order, name, err)
					}
					break
				}
				text := m.Type.String()
				if len(m.Body) == 1 && m.Body[0] == long {
					text += " long"
				}
				if len(m.Body) == 4 {
					text += " " + m.Body[3].(string)
				}
				got = append(got, text)
			}
			if want := []string{"reply", "signal done", "reply long"}; !slices.Equal(got, want) {
				t.Errorf("%v, %s: %q, want %q", order, name, got, want)
			}
		}
	}
}

// TestJobSignalsBefore: the lines of the authentication are nobody's messages.
func TestJobSignalsBefore(t *testing.T) {
	s := &jobSignals{in: bufio.NewReader(strings.NewReader("OK 1234\r\n"))}
	if text, err := io.ReadAll(s); err != nil || string(text) != "OK 1234\r\n" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestJobSignalsRefuse(t *testing.T) {
	message := reply(t, binary.LittleEndian, "text")
	endless := slices.Clone(message)
	binary.LittleEndian.PutUint32(endless[4:], 1<<31)
	for name, text := range map[string][]byte{"another protocol": []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), "an endless body": endless} {
		if _, err := io.ReadAll(systemdSays(t, bytes.NewReader(text))); !errors.Is(err, errMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := io.ReadAll(systemdSays(t, bytes.NewReader(message[:len(message)-3]))); err != nil {
		t.Errorf("half a message: %v", err)
	}
}

func FuzzJobSignals(f *testing.F) {
	f.Add([]byte("l\x02\x00\x01\x04\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00abcd"))
	f.Add([]byte("l\x04\x00\x01\x04\x00\x00\x00\x01\x00\x00\x00\x08\x00\x00\x00abcdefghabcd"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) >= headSize && binary.LittleEndian.Uint32(text[12:]) > 1<<20 {
			return // it would be allocated before it turns out not to come
		}
		s := systemdSays(t, bytes.NewReader(text))
		if out, err := io.ReadAll(s); err == nil && len(out) > len(text) {
			t.Errorf("of %d bytes it makes %d", len(text), len(out))
		}
	})
}
