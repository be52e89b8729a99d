// Package seal keeps small values unreadable at rest: envelope encryption with AES-256-GCM.
//
// Each value gets a key of its own, and that key is wrapped by a master key that lives in a file
// for root alone. Both are bound to a context, such as the name of the value: a sealed value that is moved
// to another name does not open.
//
// A sealed value is: 1 byte version, 60 bytes wrapped key (nonce, key, tag), then nonce, ciphertext, tag.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"gearmesh.dev/internal/atomicfile"
)

const (
	version    = 1
	keyLen     = 32
	overhead   = 12 + 16 // nonce and tag
	wrappedLen = keyLen + overhead
)

// ErrOpen is what a value gives that was sealed with another key, for another context, or changed since.
var ErrOpen = errors.New("the sealed value does not open: other key, other name, or damaged")

// Key is a master key.
type Key struct{ secret [keyLen]byte }

// NewKey makes a key.
func NewKey() Key {
	var k Key
	_, _ = rand.Read(k.secret[:]) // never fails (crypto/rand)
	return k
}

// LoadKey reads a key from a file that only its owner may read.
func LoadKey(path string) (Key, error) {
	var k Key
	info, err := os.Stat(path)
	if err != nil {
		return k, fmt.Errorf("reading the key for secrets: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return k, fmt.Errorf("the key for secrets %q can be read by others (mode %o); chmod 400 it", path, info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return k, fmt.Errorf("reading the key for secrets: %w", err)
	}
	if n, err := hex.Decode(k.secret[:], trim(data)); err != nil || n != keyLen {
		return Key{}, fmt.Errorf("the key for secrets %q is not %d bytes in hexadecimal; put the right file back: without it no secret opens", path, keyLen)
	}
	return k, nil
}

// trim cuts what is too long for a key, so that decoding it goes wrong instead of beyond the array.
func trim(data []byte) []byte {
	for len(data) > 0 && data[len(data)-1] == '\n' {
		data = data[:len(data)-1]
	}
	if len(data) > 2*keyLen {
		return nil
	}
	return data
}

// EnsureKey reads a key, and makes the file when there is none.
func EnsureKey(path string) (Key, error) {
	k, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Key{}, fmt.Errorf("making the key for secrets: %w", err)
	}
	k = NewKey()
	return k, atomicfile.Write(path, []byte(hex.EncodeToString(k.secret[:])+"\n"), 0o400)
}

// Seal seals a value for a context.
func (k Key) Seal(plain []byte, context string) []byte {
	own := NewKey()
	out := k.encrypt([]byte{version}, own.secret[:], context)
	return own.encrypt(out, plain, context)
}

// Open opens a value that was sealed for the context. The error is ErrOpen.
func (k Key) Open(box []byte, context string) ([]byte, error) {
	if len(box) < 1+wrappedLen+overhead || box[0] != version {
		return nil, ErrOpen
	}
	secret, err := k.decrypt(box[1:1+wrappedLen], context)
	if err != nil {
		return nil, err
	}
	var own Key
	copy(own.secret[:], secret)
	return own.decrypt(box[1+wrappedLen:], context)
}

// Hash gives a short fingerprint of a value for a context. Without the key nobody can find the
// value by trying.
func (k Key) Hash(value []byte, context string) string {
	mac := hmac.New(sha256.New, k.secret[:])
	fmt.Fprintf(mac, "hash %d %s ", len(context), context)
	mac.Write(value)
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

func (k Key) encrypt(out, plain []byte, context string) []byte {
	gcm := k.gcm()
	nonce := make([]byte, gcm.NonceSize())
	_, _ = rand.Read(nonce)
	return gcm.Seal(append(out, nonce...), nonce, plain, []byte(context))
}

func (k Key) decrypt(box []byte, context string) ([]byte, error) {
	gcm := k.gcm()
	plain, err := gcm.Open(nil, box[:gcm.NonceSize()], box[gcm.NonceSize():], []byte(context))
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

func (k Key) gcm() cipher.AEAD {
	block, err := aes.NewCipher(k.secret[:])
	if err != nil {
		panic(err) // only a wrong length of the key, which the type rules out
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

// String hides the key from logs.
func (k Key) String() string { return "(key)" }

// GoString hides the key from logs.
func (k Key) GoString() string { return "(key)" }
