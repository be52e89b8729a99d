package pki_test

import (
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
)

func apiName(s string) api.Name { return api.Name(s) }

func TestTokenRoundTrip(t *testing.T) {
	ca := newCA(t)
	token := pki.NewToken(ca.Cert)
	parsed, err := pki.ParseToken(" " + token.String() + "\n")
	if err != nil || parsed != token || parsed.Pin != ca.Pin() {
		t.Fatalf("got %+v, %v; want %+v", parsed, err, token)
	}
	if !pki.SecretMatches(parsed.Secret, token.Hash()) {
		t.Error("the token does not match its own hash")
	}
	if pki.SecretMatches(pki.NewSecret(), token.Hash()) || pki.SecretMatches("", token.Hash()) || pki.SecretMatches("", "") {
		t.Error("another secret matches")
	}
}

func TestParseTokenRefuses(t *testing.T) {
	good := pki.NewToken(newCA(t).Cert)
	cut := good
	cut.Secret = cut.Secret[:42]
	for _, text := range []string{"", "a.b", good.String() + ".x", cut.String(), "ABCDEFGH" + good.String()[8:], good.String()[:60], good.ID + ".." + good.Pin} {
		_, err := pki.ParseToken(text)
		if err == nil || !strings.Contains(err.Error(), "copied whole") {
			t.Errorf("%q: got %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), good.Secret[:40]) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(pki.NewToken(newCA(f).Cert).String())
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := pki.ParseToken(text)
		if err == nil && token.String() != strings.TrimSpace(text) {
			t.Fatalf("%q is read as %q", text, token)
		}
	})
}

func TestNewUIDIsValidAndFresh(t *testing.T) {
	seen := map[api.UID]bool{}
	for range 1000 {
		uid := pki.NewUID()
		if err := uid.Validate(); err != nil || seen[uid] {
			t.Fatalf("uid %q: %v, seen before: %v", uid, err, seen[uid])
		}
		seen[uid] = true
	}
}
