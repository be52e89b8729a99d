package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span written as Go does: "1.5s", "2m". Never negative in a resource.
type Duration time.Duration

// Std gives d as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String implements fmt.Stringer.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no duration; write a number and a unit, such as 500ms, 2s or 5m", b)
	}
	*d = Duration(v)
	return nil
}

// CPU is an amount of processor time in thousandths of a processor: "500m" is half of one.
type CPU int64

// String implements fmt.Stringer.
func (c CPU) String() string {
	if c%1000 == 0 {
		return strconv.FormatInt(int64(c/1000), 10)
	}
	return strconv.FormatInt(int64(c), 10) + "m"
}

// MarshalText implements encoding.TextMarshaler.
func (c CPU) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *CPU) UnmarshalText(b []byte) error {
	digits, milli := strings.CutSuffix(string(b), "m")
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no amount of processors; write whole processors such as 2, or thousandths such as 500m", b)
	}
	if !milli {
		n *= 1000
	}
	*c = CPU(n)
	return nil
}

// Bytes is an amount of memory or disk, written with Ki, Mi, Gi or Ti: "256Mi".
type Bytes int64

var byteUnits = [...]struct {
	suffix string
	size   int64
}{{"Ti", 1 << 40}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10}, {"", 1}}

// String implements fmt.Stringer.
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.suffix
		}
	}
	return "0"
}

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) error {
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(string(text), u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.size {
			break
		}
		*b = Bytes(n * u.size)
		return nil
	}
	return fmt.Errorf("%q is no amount of memory; write bytes, or a number with Ki, Mi, Gi or Ti, such as 256Mi", text)
}
