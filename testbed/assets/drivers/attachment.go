package main

import (
	"bytes"
	"strings"
	"sync"
)

// attachment is the output of a container as its client hands it over: demultiplexed by fsouza, as it comes by moby.
type attachment struct {
	mutex  sync.Mutex
	grown  *sync.Cond
	buffer bytes.Buffer
	closed bool
	// ended is closed when the daemon ended the stream.
	ended chan struct{}
	// leave stops reading.
	leave func()
	held  chan struct{}
	once  sync.Once
}

// read begins to read, where the client does not by itself.
func (a *attachment) read() { a.once.Do(func() { close(a.held) }) }

func newAttachment() *attachment {
	a := &attachment{ended: make(chan struct{}), held: make(chan struct{})}
	a.grown = sync.NewCond(&a.mutex)
	return a
}

func (a *attachment) Write(data []byte) (int, error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.buffer.Write(data)
	a.grown.Broadcast()
	return len(data), nil
}

func (a *attachment) end() {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.closed = true
	a.grown.Broadcast()
	close(a.ended)
}

func (a *attachment) text() string {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.buffer.String()
}

// until waits for text in the output; false when the stream ended without.
func (a *attachment) until(text string) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for !strings.Contains(a.buffer.String(), text) {
		if a.closed {
			return false
		}
		a.grown.Wait()
	}
	return true
}
