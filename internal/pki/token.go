package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"gearmesh.dev/api"
)

// Token lets one host join. Its text is ID.SECRET.PIN, such as
// "7f3k2mzq.4W0c…43 characters….xQ8e…43 characters…".
type Token struct {
	ID     string // 8 characters; names the token in the store and in logs
	Secret string // 32 random bytes in base64url; only its hash is stored
	Pin    string // of the cluster's CA; see Pin
}

const (
	tokenIDLen = 8
	secretLen  = 43 // 32 bytes in base64url
)

// NewToken makes a token that pins a CA.
func NewToken(ca *x509.Certificate) Token {
	return Token{ID: randomWord()[:tokenIDLen], Secret: NewSecret(), Pin: Pin(ca)}
}

// ParseToken reads a token's text. The error never repeats the secret.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 3 {
		return Token{}, fmt.Errorf("the join token has %d parts; ID.SECRET.PIN is needed: was it copied whole?", len(parts))
	}
	t := Token{ID: parts[0], Secret: parts[1], Pin: parts[2]}
	if len(t.ID) != tokenIDLen || strings.Trim(t.ID, wordAlphabet) != "" {
		return Token{}, fmt.Errorf("the join token's first part is no id: was it copied whole?")
	}
	for i, part := range parts[1:] {
		if raw, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil || len(raw) != 32 {
			return Token{}, fmt.Errorf("part %d of the join token is not %d characters of base64url: was it copied whole?", i+2, secretLen)
		}
	}
	return t, nil
}

// String gives the token's text, which is a secret.
func (t Token) String() string { return t.ID + "." + t.Secret + "." + t.Pin }

// Hash gives what is stored of a token's secret.
func (t Token) Hash() string { return HashSecret(t.Secret) }

// NewSecret makes 32 random bytes in base64url, 43 characters: an administrator's token.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// HashSecret gives the SHA-256 of a secret in hex. A secret is 256 random bits, so a plain hash
// keeps it; a password would need argon2id.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// SecretMatches tells in constant time whether a secret is the one of a stored hash.
func SecretMatches(secret, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(HashSecret(secret)), []byte(hash)) == 1
}

// NewUID makes a random UID: 80 bits, so that a million pods a day never meet by chance.
func NewUID() api.UID { return api.UID(randomWord()) }

// NewGossipKey makes the 32 bytes that encrypt the mesh (AES-256).
func NewGossipKey() []byte {
	key := make([]byte, 32)
	rand.Read(key)
	return key
}

const wordAlphabet = "abcdefghijklmnopqrstuvwxyz234567"

// randomWord gives 16 random characters of a-z and 2-7 (base32 of RFC 4648 in lower case).
func randomWord() string {
	var b [10]byte
	rand.Read(b[:])
	return base32.NewEncoding(wordAlphabet).EncodeToString(b[:])
}
