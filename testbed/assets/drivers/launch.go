package main

import (
	"bytes"
	"fmt"
)

// running is a launched chaincode.
type running struct {
	// before are the answers to stop, kill and removal of what had the name.
	before []string
	life   *life
	output *attachment
	// code is where the answer of wait arrives.
	code chan exit
}

type exit struct {
	code int
	err  error
}

// how a chaincode is launched.
type manner struct {
	tls, attach bool
}

// launch is DockerVM.Start: what has the name is removed, a container is created, and wait stays open for its life. The launch is over
// when the chaincode registers or wait returns, whichever is first.
func (p *peer) launch(name, id string, how manner) (*running, error) {
	r := &running{before: p.clear(name), code: make(chan exit, 1)}
	if err := p.begin(r, name, p.chaincode(imageOf(p.Chaincode), id), how); err != nil {
		return r, err
	}
	return r, nil
}

// begin creates and starts, and returns when the process registered.
func (p *peer) begin(r *running, name string, body container, how manner) error {
	body.Attached = how.attach
	arrival := p.registrar.expect(ccid(body))
	doing("creating %s", name)
	if _, err := p.create(name, body); err != nil {
		return fmt.Errorf("create: %s: %w", p.class(err), err)
	}
	// The attach has a connection of its own, and goes on beside the upload and the start.
	attaching := make(chan error, 1)
	if how.attach {
		go func() {
			output, err := p.attach(name, attached)
			if err == nil {
				output.read()
				r.output = output
			}
			attaching <- err
		}()
	} else {
		attaching <- nil
	}
	if how.tls {
		doing("uploading to %s", name)
		if err := p.upload(name, "/", bytes.NewReader(tlsFiles(p.is1_4()))); err != nil {
			return fmt.Errorf("Error uploading files to the container instance %s: %w", name, err)
		}
	}
	doing("attaching %s", name)
	if err := <-attaching; err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	if err := p.version(); err != nil {
		return fmt.Errorf("version: %w", err)
	}
	doing("starting %s", name)
	if err := p.start(name); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	go func() {
		code, err := p.wait(name)
		r.code <- exit{code, err}
	}()
	doing("waiting until %s registers", name)
	select {
	case r.life = <-arrival:
		return nil
	case end := <-r.code:
		r.code <- end
		return fmt.Errorf("container exited with %d (%v)", end.code, end.err)
	}
}

// clear is stopInternal: stop, kill and removal, none of whose errors matters.
func (p *peer) clear(name string) []string {
	doing("stop, kill and removal of %s", name)
	return []string{
		p.class(p.stop(name)),
		p.class(p.kill(name)),
		p.class(p.remove(name, byForce)),
	}
}

// lives says whether wait is still open.
func (r *running) lives() bool { return len(r.code) == 0 }

// end waits for the answer of wait.
func (r *running) end() (int, error) {
	doing("waiting for the end")
	end := <-r.code
	r.code <- end
	return end.code, end.err
}

func ccid(body container) string {
	for _, variable := range body.Env {
		const name = "CORE_CHAINCODE_ID_NAME="
		if len(variable) > len(name) && variable[:len(name)] == name {
			return variable[len(name):]
		}
	}
	return ""
}
