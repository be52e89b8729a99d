package frame_test

import (
	"bytes"
	"testing"

	"gearmesh.dev/api/frame"
)

func TestParse(t *testing.T) {
	long := make([]byte, frame.MaxMessage+1)
	long[0] = byte(frame.Data)
	for name, tc := range map[string]struct {
		message []byte
		err     string
	}{
		"empty":        {nil, "a message is empty; a frame begins with its type"},
		"unknown":      {[]byte{99}, "a frame of type 99 is not known"},
		"zero":         {[]byte{0}, "a frame of type 0 is not known"},
		"long end":     {[]byte{4, 1}, "a end frame has 1 bytes; it has 0"},
		"short resize": {[]byte{5, 0, 80}, "a resize frame has 2 bytes; it has 4"},
		"too long":     {long, "a data frame has 65537 bytes; the most is 65536"},
		"longest":      {long[:frame.MaxMessage], ""},
		"no data":      {[]byte{2}, ""},
	} {
		_, err := frame.Parse(tc.message)
		if got := text(err); got != tc.err {
			t.Errorf("%s: %q, want %q", name, got, tc.err)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestValues(t *testing.T) {
	size := frame.Size{Columns: 132, Rows: 43}
	f, err := frame.Parse(frame.Append(nil, frame.Resize, size.Payload()))
	if err != nil || f.Size() != size {
		t.Errorf("%v, %v", f.Size(), err)
	}
	for _, code := range []int{0, 7, 255, -1} {
		f, err := frame.Parse(frame.Append(nil, frame.Exit, frame.Code(code)))
		if err != nil || f.Code() != code {
			t.Errorf("%d became %d, %v", code, f.Code(), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{2, 'x'})
	f.Add([]byte{5, 0, 80, 0, 24})
	f.Add([]byte{6, 0, 0, 0, 7})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, message []byte) {
		got, err := frame.Parse(message)
		if err != nil {
			return
		}
		if again := frame.Append(nil, got.Type, got.Payload); !bytes.Equal(again, message) {
			t.Errorf("%x became %x", message, again)
		}
		switch got.Type {
		case frame.Resize:
			if !bytes.Equal(got.Size().Payload(), got.Payload) {
				t.Errorf("the size of %x is %v", message, got.Size())
			}
		case frame.Exit:
			if !bytes.Equal(frame.Code(got.Code()), got.Payload) {
				t.Errorf("the code of %x is %d", message, got.Code())
			}
		}
	})
}
