package main

import (
	"bufio"
	"fmt"
	"net"
	"sort"
	"strings"
	"sync"
)

// chaincodeScript is the chaincode: it dials the peer, says its name and which files it has, and does what it is told on that
// connection. The peer knows by it, and by nothing else, that the process is there and that it is gone. SIGTERM ends it, as it ends Go.
const chaincodeScript = `#!/bin/sh
trap 'exit 143' TERM
address=${1#-peer.address=}
echo "$CORE_CHAINCODE_ID_NAME starts"
mkfifo /tmp/said
nc "${address%:*}" "${address##*:}" </tmp/said | {
  exec 3>/tmp/said
  for file in /etc/hyperledger/fabric/*; do
    [ -f "$file" ] && echo "file $(stat -c %a "$file") $(wc -c <"$file") $file" >&3
  done
  echo "format $CORE_CHAINCODE_LOGGING_FORMAT" >&3
  echo "register $CORE_CHAINCODE_ID_NAME" >&3
  while read -r word rest; do
    case $word in
      say) echo "$rest" ;;
      complain) echo "$rest" >&2 ;;
      exit) exit "$rest" ;;
    esac
  done
  exit 0
} &
wait $!
`

// registrar is the peer's chaincode service, as far as it matters here.
type registrar struct {
	listener net.Listener
	mutex    sync.Mutex
	waiting  map[string]chan *life
}

// life is a chaincode that registered.
type life struct {
	connection net.Conn
	files      []string
	format     string
	// gone is closed when the process is.
	gone chan struct{}
}

func listen() (*registrar, error) {
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		return nil, err
	}
	r := &registrar{listener: listener, waiting: map[string]chan *life{}}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go r.serve(connection)
		}
	}()
	return r, nil
}

func (r *registrar) address(host string) string {
	return fmt.Sprintf("%s:%d", host, r.listener.Addr().(*net.TCPAddr).Port)
}

// expect is where the next registration of this name arrives.
func (r *registrar) expect(name string) chan *life {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	arrival := make(chan *life, 1)
	r.waiting[name] = arrival
	return arrival
}

func (r *registrar) serve(connection net.Conn) {
	defer connection.Close()
	l := &life{connection: connection, gone: make(chan struct{})}
	defer close(l.gone)
	lines := bufio.NewScanner(connection)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "file":
			l.files = append(l.files, rest)
		case "format":
			l.format = rest
		case "register":
			sort.Strings(l.files)
			r.mutex.Lock()
			arrival := r.waiting[rest]
			delete(r.waiting, rest)
			r.mutex.Unlock()
			if arrival == nil {
				// A peer refuses what it does not wait for.
				return
			}
			arrival <- l
		}
	}
}

func (l *life) tell(format string, values ...any) {
	fmt.Fprintf(l.connection, format+"\n", values...)
}
