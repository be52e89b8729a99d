package atomicfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// ErrDamaged is wrapped by the error of a file that is there but is not what was written.
var ErrDamaged = errors.New("the file is damaged")

// sumHead opens the last line of a file that carries its checksum.
const sumHead = `{"crc32c":"`

// WriteSummed replaces path by v as indented JSON, with a last line that holds a checksum of the text before it:
// {"crc32c":"8a9136aa"}. A disk that gives back other bytes than it was given is found out by it.
func WriteSummed(path string, v any, perm os.FileMode) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	data = append(data, '\n')
	return Write(path, append(data, sumLine(data)...), perm)
}

// ReadSummed reads what WriteSummed wrote, of at most limit bytes. A file without a checksum is read too: older versions
// wrote none. The error wraps ErrDamaged unless the file could not be read at all; v is then not to be used.
func ReadSummed(path string, limit int64, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return fmt.Errorf("reading %q: %w", path, err)
	}
	if int64(len(data)) > limit {
		return fmt.Errorf("reading %q: %w: it has more than %d bytes", path, ErrDamaged, limit)
	}
	if err := unmarshalSummed(data, v); err != nil {
		return fmt.Errorf("reading %q: %w: %w", path, ErrDamaged, err)
	}
	return nil
}

func unmarshalSummed(data []byte, v any) error {
	if i := bytes.LastIndex(data, []byte("\n"+sumHead)); i >= 0 {
		body, sum := data[:i+1], data[i+1:]
		if want := sumLine(body); !bytes.Equal(sum, want) {
			return fmt.Errorf("its text does not fit its checksum %s (somebody edited it, or the disk changed it)", bytes.TrimSpace(sum))
		}
		data = body
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("it is empty")
	}
	return json.Unmarshal(data, v)
}

// sumLine gives the last line that goes with a text (CRC-32C, RFC 3720).
func sumLine(text []byte) []byte {
	return fmt.Appendf(nil, "%s%08x\"}\n", sumHead, crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
}
