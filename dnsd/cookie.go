package dnsd

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"time"
)

// The form of a server cookie (RFC 9018, section 4): a version, three zeroes, the second it was
// made in, and a hash. 240 is a version for private use: the hash is ours, since nobody else has to
// make the same, and the secret lives as long as the process.
const (
	cookieVersion = 240
	cookieLen     = 8 + 16
	cookieLife    = time.Hour
)

// cookies makes and checks server cookies (RFC 7873): who has one gets our answers at the address
// that it asks from, and so cannot be a forged sender. It is for one goroutine.
//
// The hash is the last block of a CBC-MAC with AES of two blocks: the client's cookie with the
// time, and the address. Messages of one fixed length make that a sound one.
type cookies struct {
	block cipher.Block
	mac   [aes.BlockSize]byte
	out   [cookieLen]byte
}

// newSecret gives the key of a server's cookies.
func newSecret() (cipher.Block, error) {
	var key [16]byte
	rand.Read(key[:]) // never fails
	return aes.NewCipher(key[:])
}

// give makes the cookie option of a reply; the bytes are good until the next call.
func (c *cookies) give(client []byte, asker netip.Addr, now time.Time) []byte {
	copy(c.out[:8], client)
	binary.BigEndian.PutUint64(c.out[8:], cookieVersion<<56|uint64(uint32(now.Unix())))
	copy(c.out[16:], c.hash(asker))
	return c.out[:]
}

// check tells whether the asker has had a cookie from this server lately.
func (c *cookies) check(cookie []byte, asker netip.Addr, now time.Time) bool {
	if len(cookie) != cookieLen || cookie[8] != cookieVersion {
		return false
	}
	age := now.Sub(time.Unix(int64(binary.BigEndian.Uint32(cookie[12:])), 0))
	if age > cookieLife || age < -5*time.Minute {
		return false
	}
	copy(c.out[:16], cookie)
	return subtle.ConstantTimeCompare(c.hash(asker), cookie[16:]) == 1
}

// hash is over the first 16 bytes of out and the address.
func (c *cookies) hash(asker netip.Addr) []byte {
	a := asker.As16()
	c.block.Encrypt(c.mac[:], c.out[:16])
	subtle.XORBytes(c.mac[:], c.mac[:], a[:])
	c.block.Encrypt(c.mac[:], c.mac[:])
	return c.mac[:8]
}
