package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"

	docker "github.com/fsouza/go-dockerclient"
)

// fsouza is go-dockerclient as peers of 1.4, and most of 2.x and 3.x, use it.
type fsouza struct {
	client *docker.Client
	dials  atomic.Int64
	spoken
}

func connect(o order) (daemon, error) {
	f := &fsouza{}
	var err error
	if o.TLS == "" {
		f.client, err = docker.NewClient(o.Endpoint)
	} else {
		file := func(name string) string { return filepath.Join(o.TLS, name) }
		f.client, err = docker.NewTLSClient(o.Endpoint, file("cert.pem"), file("key.pem"), file("ca.pem"))
	}
	if err != nil {
		return nil, err
	}
	if config := f.client.TLSConfig; config != nil {
		// Of all calls but attach, whose copy of the settings leaves this one out.
		config.VerifyConnection = func(state tls.ConnectionState) error {
			f.note(state)
			return nil
		}
		if o.TLSVersion == "1.2" {
			config.MaxVersion = tls.VersionTLS12
		}
	}
	if transport, ok := f.client.HTTPClient.Transport.(*http.Transport); ok && o.Scenario == "connections" {
		transport.Dial = nil
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			f.dials.Add(1)
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	}
	return f, nil
}

func (f *fsouza) habits() habits { return habits{} }

func (f *fsouza) connections() int { return int(f.dials.Load()) }

func (f *fsouza) version() error {
	_, err := f.client.Version()
	return err
}

func (f *fsouza) inspect(image string) error {
	_, err := f.client.InspectImage(image)
	return err
}

func (f *fsouza) pull(image string) error {
	return f.client.PullImage(docker.PullImageOptions{Repository: image, OutputStream: io.Discard}, docker.AuthConfiguration{})
}

func (f *fsouza) build(image string, content io.Reader) error {
	return f.client.BuildImage(docker.BuildImageOptions{
		Name:         image,
		NetworkMode:  "host",
		InputStream:  content,
		OutputStream: io.Discard,
	})
}

func (f *fsouza) create(name string, body container) (string, error) {
	options := docker.CreateContainerOptions{
		Name: name,
		Config: &docker.Config{
			Image:        body.Image,
			Cmd:          body.Cmd,
			Env:          body.Env,
			AttachStdout: body.Attached,
			AttachStderr: body.Attached,
		},
	}
	if body.HostConfig {
		options.HostConfig = &docker.HostConfig{
			NetworkMode: "host",
			Memory:      memory,
			LogConfig: docker.LogConfig{
				Type:   "json-file",
				Config: map[string]string{"max-size": "50m", "max-file": "5"},
			},
		}
	}
	made, err := f.client.CreateContainer(options)
	if err != nil {
		return "", err
	}
	return made.ID, nil
}

func (f *fsouza) upload(id, path string, content io.Reader) error {
	return f.client.UploadToContainer(id, docker.UploadToContainerOptions{InputStream: content, Path: path})
}

func (f *fsouza) attach(id string, when moment) (*attachment, error) {
	a := newAttachment()
	options := docker.AttachToContainerOptions{
		Container:    id,
		OutputStream: a,
		ErrorStream:  a,
		Logs:         true,
		Stream:       true,
		Stdout:       true,
		Stderr:       true,
	}
	if when == attached {
		options.Success = make(chan struct{})
	}
	waiter, err := f.client.AttachToContainerNonBlocking(options)
	if err != nil {
		return nil, err
	}
	if when == attached {
		// The client has the head of the answer, and half-closes the connection right after this.
		<-options.Success
		options.Success <- struct{}{}
	}
	left := make(chan struct{})
	a.leave = func() {
		select {
		case <-a.ended:
		default:
			waiter.Close()
			<-left
		}
	}
	go func() {
		waiter.Wait()
		a.end()
		close(left)
	}()
	return a, nil
}

func (f *fsouza) start(id string) error { return f.client.StartContainer(id, nil) }

func (f *fsouza) wait(id string) (int, error) { return f.client.WaitContainer(id) }

func (f *fsouza) download(id, path string) ([]byte, string, error) {
	var files bytes.Buffer
	err := f.client.DownloadFromContainer(id, docker.DownloadFromContainerOptions{OutputStream: &files, Path: path})
	// This client shows no stat.
	return files.Bytes(), "", err
}

func (f *fsouza) stop(id string) error { return f.client.StopContainer(id, 0) }

func (f *fsouza) kill(id string) error {
	return f.client.KillContainer(docker.KillContainerOptions{ID: id})
}

func (f *fsouza) remove(id string, how removal) error {
	return f.client.RemoveContainer(docker.RemoveContainerOptions{ID: id, Force: how == byForce})
}

func (f *fsouza) class(err error) string {
	var (
		status   *docker.Error
		missing  *docker.NoSuchContainer
		idle     *docker.ContainerNotRunning
		running  *docker.ContainerAlreadyRunning
		statusOf = func(code int) string {
			switch code {
			case 404:
				return "not found"
			case 409:
				return "conflict"
			case 304:
				return "not modified"
			}
			return "error"
		}
	)
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, docker.ErrNoSuchImage), errors.As(err, &missing):
		return "not found"
	case errors.Is(err, docker.ErrContainerAlreadyExists):
		return "conflict"
	case errors.As(err, &running):
		return "not modified"
	case errors.As(err, &idle):
		// This client makes one error of 304 to a stop and 409 to a kill.
		return "not running"
	case errors.As(err, &status):
		return statusOf(status.Status)
	}
	return "error"
}
