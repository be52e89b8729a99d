// Package pki is how the parts of a cluster know each other: its certificate authority, the
// certificates of master and hosts, join tokens, and the TLS settings made of them.
//
// Keys are ECDSA P-256. The CA lives 10 years in one file on the masters, mode 0400. Certificates live
// 7 days and are renewed when 2/3 of that have passed, so that a lost one is soon worthless.
//
// A certificate's common name says who its owner is: "master", or "host:NAME". The signer alone
// sets it: of a signing request only the public key is used.
//
// A host that joins knows only its token, ID.SECRET.PIN. The pin is the SHA-256 of the CA's
// certificate: FetchCA finds the CA with it before the host sends anything, and from then on every
// connection is verified against that CA. Nothing here skips verification.
package pki
