package backup

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// NewKey makes a key for one transfer: what is sealed for the recipient opens with the identity.
func NewKey() (identity, recipient string, err error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", fmt.Errorf("making a key: %w", err)
	}
	return id.String(), id.Recipient().String(), nil
}

// Seal encrypts what is written for an age recipient, "age1…". Close ends it.
func Seal(w io.Writer, recipient string) (io.WriteCloser, error) {
	to, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		return nil, fmt.Errorf("the recipient is no age key: %w", err)
	}
	return age.Encrypt(w, to)
}

// SealWith encrypts what is written with a passphrase. It takes a second and 256 MiB, so that guessing does too.
func SealWith(w io.Writer, passphrase string) (io.WriteCloser, error) {
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("the passphrase: %w", err)
	}
	return age.Encrypt(w, to)
}

// Open decrypts with the identities of an age key file.
func Open(r, keys io.Reader) (io.Reader, error) {
	ids, err := age.ParseIdentities(keys)
	if err != nil {
		return nil, fmt.Errorf("reading the age key: %w", err)
	}
	return open(r, "the key", ids...)
}

// OpenWith decrypts with a passphrase.
func OpenWith(r io.Reader, passphrase string) (io.Reader, error) {
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fmt.Errorf("the passphrase: %w", err)
	}
	return open(r, "the passphrase", id)
}

func open(r io.Reader, what string, ids ...age.Identity) (io.Reader, error) {
	plain, err := age.Decrypt(r, ids...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, fmt.Errorf("%s does not open the backup", what)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the backup: %w", err)
	}
	return plain, nil
}
