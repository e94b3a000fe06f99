// A driver is a Fabric peer as a Docker client sees it: it makes a peer's calls in a peer's order and concurrency, with the client
// library of that peer's release, and prints what it observed as JSON. It does not judge: tests/dialect does.
//
// This file is the same for all clients: the command line, and the sequences of core/container/dockercontroller. fsouza.go and moby.go
// say how one client makes one call; scenarios.go what is asked for.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
)

// order is what the suite asks for, as JSON on standard input.
type order struct {
	// Endpoint is the peer's vm.endpoint.
	Endpoint string
	// TLS is a directory with ca.pem, cert.pem and key.pem, or empty.
	TLS string
	// TLSVersion is the newest that is spoken: "1.2" as peers of an old Go, or empty.
	TLSVersion string
	// APIVersion pins the version where a client would not speak the one of the reference.
	APIVersion string
	Scenario   string
	// Family is a row of the table of releases: F1 to F7.
	Family string
	// Name is part of all names that the scenario uses.
	Name string
	// Chaincode is what the image of launched chaincode is made of, if the scenario needs one.
	Chaincode string
	Builder   string
	Runtime   string
	// Host is where containers reach this process.
	Host string
	// Pulls are references for the scenario of pulls, by what they are.
	Pulls map[string]string
}

// daemon is one client: one method for each call that peers make.
type daemon interface {
	// version is what is asked before a build and a start.
	version() error
	inspect(image string) error
	pull(image string) error
	build(image string, context io.Reader) error
	create(name string, body container) (string, error)
	upload(id, path string, content io.Reader) error
	attach(id string, when moment) (*attachment, error)
	start(id string) error
	wait(id string) (int, error)
	download(id, path string) ([]byte, string, error)
	stop(id string) error
	kill(id string) error
	remove(id string, how removal) error
	// class is what a peer can tell of an error: "ok", "not found", "conflict", "not modified" or "error".
	class(err error) string
	// connections that were opened so far.
	connections() int
	// versions of TLS that were agreed on so far.
	versions() []string
	// habits in which families differ beyond the calls.
	habits() habits
}

type habits struct {
	// readsToEnd: the attached output is read to its end after wait; otherwise no further than wait.
	readsToEnd bool
}

// moment is when attach returns.
type moment int

const (
	// soon: as compiles do; with fsouza attach and start race.
	soon moment = iota
	// attached: not before the daemon has answered.
	attached
)

type removal int

const (
	gently removal = iota
	byForce
)

// container is what peers put into a create body.
type container struct {
	Image    string
	Cmd      []string
	Env      []string
	Attached bool
	// HostConfig as the chaincode's; 1.4 sends it for compiles too.
	HostConfig bool
}

// memory is the default of vm.docker.hostConfig.Memory.
const memory = 2147483648

// limit ends a driver that hangs: longer than any scenario, and the suite is told which step it was.
const limit = 150 * time.Second

var step = make(chan string, 64)

// doing says what is done next, for the error of a driver that hangs.
func doing(format string, values ...any) {
	select {
	case step <- fmt.Sprintf(format, values...):
	default:
	}
}

func watch(scenario string) {
	end := time.After(limit)
	var last []string
	for {
		select {
		case now := <-step:
			last = append(last, now)
			last = last[max(0, len(last)-8):]
		case <-end:
			fmt.Fprintf(os.Stderr, "%s: not within %s; last steps: %s\n", scenario, limit, strings.Join(last, "; "))
			os.Exit(3)
		}
	}
}

func main() {
	var o order
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		fmt.Fprintln(os.Stderr, "no order on standard input:", err)
		os.Exit(2)
	}
	go watch(o.Scenario)
	d, err := connect(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot make a client of", o.Endpoint+":", err)
		os.Exit(2)
	}
	p := &peer{order: o, daemon: d}
	seen, err := p.play()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", o.Scenario, err)
		os.Exit(1)
	}
	out, err := json.Marshal(seen)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(out))
}

// facts are what was observed, by name.
type facts map[string]any

type peer struct {
	order
	daemon
	registrar *registrar
}

func (p *peer) is1_4() bool { return p.Family == "F1" || p.Family == "F2" }

// install is the way from a package to an image: what it has to say of the calls, the output of the compile and the error that the
// user would be told.
type install struct {
	// Before is the question whether the image is there.
	Before string
	// Probe is the version of Go in the builder, where peers ask for it.
	Probe  string
	Stat   string
	Output string
	Files  []byte
	Err    error
}

var goVersion = regexp.MustCompile(`go\s+version\s+go([\d.]+)\s+(\w+)/(\w+)`)

// imageOf is the name of the image of what a peer calls name: lower case, with a hash behind it.
func imageOf(name string) string {
	return fmt.Sprintf("%s-%x", strings.ToLower(name), sha256.Sum256([]byte(name)))
}

// install builds image from what script makes of the upload, as DockerVM.Start of 1.4 and DockerVM.Build of 2.x do.
func (p *peer) install(image string, input []byte, script string) *install {
	seen := &install{}
	doing("asking for the image %s", image)
	if p.is1_4() {
		_, err := p.create(image, p.chaincode(image, image))
		seen.Before = p.class(err)
	} else {
		seen.Before = p.class(p.inspect(image))
	}
	if err := p.version(); err != nil {
		seen.Err = fmt.Errorf("version: %w", err)
		return seen
	}
	// The build is opened first and stays silent while the compile goes on: its context is filled by the other goroutine.
	reader, writer := io.Pipe()
	filled := make(chan struct{})
	go func() {
		defer close(filled)
		context := newContext(writer)
		context.add("Dockerfile", []byte(dockerfile(p.Runtime)))
		binpackage, err := p.compile(seen, input, script)
		if err != nil {
			context.flush()
			writer.CloseWithError(fmt.Errorf("docker build failed: %w", err))
			return
		}
		context.add("binpackage.tar", binpackage)
		context.end()
		writer.Close()
	}()
	doing("build of %s", image)
	seen.Err = p.build(image, reader)
	// A client that gave up reads no more: what still writes must hear of it.
	reader.CloseWithError(errors.New("the build is over"))
	<-filled
	return seen
}

// compile is util.DockerBuild: the nested container.
func (p *peer) compile(seen *install, input []byte, script string) ([]byte, error) {
	if p.Family == "F6" || p.Family == "F7" {
		output, _, err := p.nested([]string{"go", "version"}, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("go version: %w", err)
		}
		if found := goVersion.FindStringSubmatch(output); found != nil {
			seen.Probe = found[1]
		}
	}
	output, result, err := p.nested([]string{"/bin/sh", "-c", script}, input, seen)
	seen.Output = output
	return result, err
}

// nested runs a container of the builder image: the probe without files, or a compile.
func (p *peer) nested(cmd []string, input []byte, seen *install) (string, []byte, error) {
	doing("inspecting the builder")
	if err := p.inspect(p.Builder); err != nil {
		doing("pulling the builder")
		if err := p.pull(p.Builder); err != nil {
			return "", nil, fmt.Errorf("Failed to pull %s: %w", p.Builder, err)
		}
	}
	body := container{Image: p.Builder, Cmd: cmd, Attached: true, HostConfig: p.is1_4()}
	if seen != nil && !p.is1_4() {
		body.Env = []string{"GOPROXY=https://proxy.example"}
	}
	doing("creating %v", cmd)
	id, err := p.create("", body)
	if err != nil {
		return "", nil, fmt.Errorf("creating: %w", err)
	}
	defer p.remove(id, gently)
	if seen != nil {
		doing("uploading the input")
		if err := p.upload(id, "/chaincode/input", bytes.NewReader(input)); err != nil {
			return "", nil, fmt.Errorf("Error uploading input to the container: %w", err)
		}
	}
	doing("attaching")
	output, err := p.attach(id, soon)
	if err != nil {
		return "", nil, fmt.Errorf("attach: %w", err)
	}
	doing("starting")
	if err := p.start(id); err != nil {
		if p.habits().readsToEnd {
			// moby peers read to the end before they look at the error.
			output.read()
			<-output.ended
		}
		output.leave()
		return output.text(), nil, fmt.Errorf("Error executing build: %w \"%s\"", err, output.text())
	}
	doing("waiting for the compile")
	code, err := p.wait(id)
	if p.habits().readsToEnd {
		doing("reading the output to its end")
		output.read()
		<-output.ended
	}
	output.leave()
	text := output.text()
	if err != nil {
		return text, nil, fmt.Errorf("Error waiting for container to complete: %w", err)
	}
	if code > 0 {
		return text, nil, fmt.Errorf("Error returned from build: %d \"%s\"", code, text)
	}
	if seen == nil {
		return text, nil, nil
	}
	doing("downloading")
	files, stat, err := p.download(id, "/chaincode/output/.")
	if err != nil {
		return text, nil, fmt.Errorf("Error downloading output: %w", err)
	}
	seen.Files, seen.Stat = files, stat
	return text, files, nil
}

// chaincode is the create body of a chaincode container.
func (p *peer) chaincode(image, id string) container {
	body := container{
		Image:      image,
		HostConfig: true,
		Env: []string{
			"CORE_CHAINCODE_ID_NAME=" + id,
			"CORE_CHAINCODE_LOGGING_LEVEL=info",
			"CORE_CHAINCODE_LOGGING_FORMAT=%{color}%{time:2006-01-02} [%{module}] a=b -> %{message}",
			"CORE_PEER_TLS_ENABLED=true",
		},
	}
	address := ""
	if p.registrar != nil {
		address = p.registrar.address(p.Host)
	}
	body.Cmd = []string{"chaincode", "-peer.address=" + address}
	return body
}
