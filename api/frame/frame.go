// Package frame is what flows in a session: the websocket of gear exec, gear port-forward and gear
// cp, from the client through the master to the agent (docs/http-api.md).
//
// One binary websocket message is one frame: a byte that says what it is, then the payload. The package
// is pure; who may send what, and when, is up to the sessions.
package frame

import (
	"encoding/binary"
	"fmt"
)

// Type says what a frame is.
type Type byte

// The types of frames.
const (
	Start  Type = 1 // JSON: what the client asks for; of a copy also the agent's answer
	Data   Type = 2 // bytes: of standard input and output, of a connection, or of an archive
	Stderr Type = 3 // bytes of standard error; from the agent only
	End    Type = 4 // empty: the sender has no more Data
	Resize Type = 5 // Size of the client's terminal
	Exit   Type = 6 // Code: all has been done; the last frame
	Error  Type = 7 // JSON api.Error: it could not be done, or not to its end; the last frame
	Alive  Type = 8 // empty: the sender lives, though it has nothing to say
)

// MaxPayload bounds a frame's payload in bytes.
const MaxPayload = 64 << 10

// MaxMessage bounds a websocket message: a frame with its type.
const MaxMessage = 1 + MaxPayload

// Frame is one frame. Payload may be a part of the message it was parsed from.
type Frame struct {
	Type    Type
	Payload []byte
}

// String names the type for messages.
func (t Type) String() string {
	names := [...]string{Start: "start", Data: "data", Stderr: "stderr", End: "end", Resize: "resize", Exit: "exit", Error: "error", Alive: "alive"}
	if int(t) < len(names) && names[t] != "" {
		return names[t]
	}
	return fmt.Sprintf("type %d", byte(t))
}

// Append adds a frame's message to b.
func Append(b []byte, t Type, payload []byte) []byte { return append(append(b, byte(t)), payload...) }

// Parse reads a message. The error says what is wrong with it; what it accepts, Append gives back.
func Parse(message []byte) (Frame, error) {
	if len(message) == 0 {
		return Frame{}, fmt.Errorf("a message is empty; a frame begins with its type")
	}
	f := Frame{Type(message[0]), message[1:]}
	if len(f.Payload) > MaxPayload {
		return Frame{}, fmt.Errorf("a %s frame has %d bytes; the most is %d", f.Type, len(f.Payload), MaxPayload)
	}
	want := -1
	switch f.Type {
	case Start, Data, Stderr, Error:
	case End, Alive:
		want = 0
	case Resize, Exit:
		want = 4
	default:
		return Frame{}, fmt.Errorf("a frame of %s is not known", f.Type)
	}
	if want >= 0 && len(f.Payload) != want {
		return Frame{}, fmt.Errorf("a %s frame has %d bytes; it has %d", f.Type, len(f.Payload), want)
	}
	return f, nil
}

// Size is that of a terminal, in characters.
type Size struct{ Columns, Rows uint16 }

// Payload gives the payload of a Resize frame: columns, then rows, big-endian.
func (s Size) Payload() []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, s.Columns), s.Rows)
}

// Size reads the payload of a parsed Resize frame.
func (f Frame) Size() Size {
	return Size{binary.BigEndian.Uint16(f.Payload), binary.BigEndian.Uint16(f.Payload[2:])}
}

// Code gives the payload of an Exit frame: a command's exit code, big-endian.
func Code(code int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(int32(code))) }

// Code reads the payload of a parsed Exit frame.
func (f Frame) Code() int { return int(int32(binary.BigEndian.Uint32(f.Payload))) }
