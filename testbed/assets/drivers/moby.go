package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/containerd/errdefs"
	containers "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// moby is the client that 2.5.15, 3.1.4 and later peers use.
type moby struct {
	client *client.Client
	family string
	dials  atomic.Int64
	spoken
	// always is a context without a deadline: peers give none to any call.
	always context.Context
}

func connect(o order) (daemon, error) {
	m := &moby{family: o.Family}
	m.always = httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			if err == nil {
				m.note(state)
			}
		},
	})
	options := []client.Opt{client.WithHost(o.Endpoint)}
	if o.TLS != "" {
		// A setting that names a missing file ends a peer of this client at its start; what can be left out is left empty.
		file := func(name string) string {
			path := filepath.Join(o.TLS, name)
			if _, err := os.Stat(path); err != nil {
				return ""
			}
			return path
		}
		options = append(options, client.WithTLSClientConfig(file("ca.pem"), file("cert.pem"), file("key.pem")))
	}
	if o.APIVersion != "" {
		options = append(options, client.WithAPIVersion(o.APIVersion))
	}
	if o.Scenario == "connections" {
		options = append(options, client.WithDialContext(func(ctx context.Context, network, address string) (net.Conn, error) {
			m.dials.Add(1)
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}))
	}
	var err error
	m.client, err = client.New(options...)
	return m, err
}

func (m *moby) habits() habits { return habits{readsToEnd: true} }

func (m *moby) connections() int { return int(m.dials.Load()) }

// The version is negotiated by the client.
func (m *moby) version() error { return nil }

func (m *moby) inspect(image string) error {
	_, err := m.client.ImageInspect(m.always, image)
	return err
}

func (m *moby) pull(image string) error {
	body, err := m.client.ImagePull(m.always, image, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	if m.family == "F5" {
		// It goes on at the head of the answer, and leaves the body open.
		return nil
	}
	defer body.Close()
	// 3.1.5 looks for an error in the stream, 2.5.16 only reads it.
	decoder := json.NewDecoder(body)
	for {
		var progress struct{ Error string }
		if err := decoder.Decode(&progress); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if progress.Error != "" && m.family == "F7" {
			return fmt.Errorf("%s", progress.Error)
		}
	}
}

func (m *moby) build(image string, content io.Reader) error {
	answer, err := m.client.ImageBuild(m.always, content, client.ImageBuildOptions{
		Tags:        []string{image},
		NetworkMode: "host",
		PullParent:  m.family == "F5",
	})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	// The peer copies it into its log.
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

func (m *moby) create(name string, body container) (string, error) {
	options := client.ContainerCreateOptions{
		Name: name,
		Config: &containers.Config{
			Image:        body.Image,
			Cmd:          body.Cmd,
			Env:          body.Env,
			AttachStdout: body.Attached,
			AttachStderr: body.Attached,
		},
	}
	if body.HostConfig {
		options.HostConfig = &containers.HostConfig{
			NetworkMode: "host",
			Resources:   containers.Resources{Memory: memory},
			LogConfig: containers.LogConfig{
				Type:   "json-file",
				Config: map[string]string{"max-size": "50m", "max-file": "5"},
			},
		}
	}
	made, err := m.client.ContainerCreate(m.always, options)
	return made.ID, err
}

func (m *moby) upload(id, path string, content io.Reader) error {
	_, err := m.client.CopyToContainer(m.always, id, client.CopyToContainerOptions{
		DestinationPath:           path,
		Content:                   content,
		AllowOverwriteDirWithFile: true,
	})
	return err
}

func (m *moby) attach(id string, _ moment) (*attachment, error) {
	attached, err := m.client.ContainerAttach(m.always, id, client.ContainerAttachOptions{
		Stream: true, Stdout: true, Stderr: true, Logs: true,
	})
	if err != nil {
		return nil, err
	}
	a := newAttachment()
	a.leave = attached.Close
	go func() {
		// Compiles are read only after wait has answered.
		<-a.held
		io.Copy(a, attached.Reader)
		a.end()
	}()
	return a, nil
}

func (m *moby) start(id string) error {
	_, err := m.client.ContainerStart(m.always, id, client.ContainerStartOptions{})
	return err
}

func (m *moby) wait(id string) (int, error) {
	waiting := m.client.ContainerWait(m.always, id, client.ContainerWaitOptions{})
	select {
	case err := <-waiting.Error:
		return 0, err
	case answer := <-waiting.Result:
		return int(answer.StatusCode), nil
	}
}

func (m *moby) download(id, path string) ([]byte, string, error) {
	answer, err := m.client.CopyFromContainer(m.always, id, client.CopyFromContainerOptions{SourcePath: path})
	if err != nil {
		return nil, "", err
	}
	defer answer.Content.Close()
	var files bytes.Buffer
	_, err = io.Copy(&files, answer.Content)
	kind := "file"
	if answer.Stat.Mode.IsDir() {
		kind = "directory"
	}
	return files.Bytes(), kind + " " + answer.Stat.Name, err
}

func (m *moby) stop(id string) error {
	now := 0
	_, err := m.client.ContainerStop(m.always, id, client.ContainerStopOptions{Timeout: &now})
	return err
}

func (m *moby) kill(id string) error {
	_, err := m.client.ContainerKill(m.always, id, client.ContainerKillOptions{})
	return err
}

func (m *moby) remove(id string, how removal) error {
	_, err := m.client.ContainerRemove(m.always, id, client.ContainerRemoveOptions{Force: how == byForce})
	return err
}

func (m *moby) class(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errdefs.IsNotFound(err):
		return "not found"
	case errdefs.IsConflict(err):
		return "conflict"
	}
	return "error"
}
