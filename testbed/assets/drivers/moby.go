package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
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
}

func connect(o order) (daemon, error) {
	m := &moby{family: o.Family}
	options := []client.Opt{client.WithHost(o.Endpoint)}
	if o.TLS != "" {
		file := func(name string) string { return filepath.Join(o.TLS, name) }
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

// Peers give no deadline to any call.
var always = context.Background()

func (m *moby) habits() habits { return habits{readsToEnd: true} }

func (m *moby) connections() int { return int(m.dials.Load()) }

// The version is negotiated by the client.
func (m *moby) version() error { return nil }

func (m *moby) inspect(image string) error {
	_, err := m.client.ImageInspect(always, image)
	return err
}

func (m *moby) pull(image string) error {
	body, err := m.client.ImagePull(always, image, client.ImagePullOptions{})
	if err != nil {
		return err
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
	answer, err := m.client.ImageBuild(always, content, client.ImageBuildOptions{
		Tags:        []string{image},
		NetworkMode: "host",
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
	made, err := m.client.ContainerCreate(always, options)
	return made.ID, err
}

func (m *moby) upload(id, path string, content io.Reader) error {
	_, err := m.client.CopyToContainer(always, id, client.CopyToContainerOptions{
		DestinationPath:           path,
		Content:                   content,
		AllowOverwriteDirWithFile: true,
	})
	return err
}

func (m *moby) attach(id string, _ moment) (*attachment, error) {
	attached, err := m.client.ContainerAttach(always, id, client.ContainerAttachOptions{
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
	_, err := m.client.ContainerStart(always, id, client.ContainerStartOptions{})
	return err
}

func (m *moby) wait(id string) (int, error) {
	waiting := m.client.ContainerWait(always, id, client.ContainerWaitOptions{})
	select {
	case err := <-waiting.Error:
		return 0, err
	case answer := <-waiting.Result:
		return int(answer.StatusCode), nil
	}
}

func (m *moby) download(id, path string) ([]byte, string, error) {
	answer, err := m.client.CopyFromContainer(always, id, client.CopyFromContainerOptions{SourcePath: path})
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
	_, err := m.client.ContainerStop(always, id, client.ContainerStopOptions{Timeout: &now})
	return err
}

func (m *moby) kill(id string) error {
	_, err := m.client.ContainerKill(always, id, client.ContainerKillOptions{})
	return err
}

func (m *moby) remove(id string, how removal) error {
	_, err := m.client.ContainerRemove(always, id, client.ContainerRemoveOptions{Force: how == byForce})
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
