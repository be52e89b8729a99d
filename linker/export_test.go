package linker

import "golang.org/x/sys/unix"

// Direct is Update without a process, and without a fallback.
func Direct(netns string, old, r Rules) error {
	s, err := openSpace(netns, NFT, versions())
	if err != nil {
		return err
	}
	defer s.close()
	return s.update(&line{s.sockets[lineSocket], make([]byte, lineBuffer)}, families(old), families(r))
}

// Generation gives that of the calling thread's namespace.
func Generation() (uint32, error) {
	fd, err := openLine()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return (&line{fd, make([]byte, lineBuffer)}).generation()
}
