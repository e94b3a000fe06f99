package main

import (
	"crypto/tls"
	"slices"
	"sync"
)

// spoken are the versions of TLS that a client and the daemon agreed on.
type spoken struct {
	mutex sync.Mutex
	names []string
}

func (s *spoken) note(state tls.ConnectionState) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if name := tls.VersionName(state.Version); !slices.Contains(s.names, name) {
		s.names = append(s.names, name)
		slices.Sort(s.names)
	}
}

func (s *spoken) versions() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.names)
}
