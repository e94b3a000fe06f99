package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

func (p *peer) play() (facts, error) {
	var err error
	if p.registrar, err = listen(); err != nil {
		return nil, err
	}
	scenarios := map[string]func() (facts, error){
		"build":          p.seeBuild,
		"car":            p.seeCar,
		"compile_error":  p.seeCompileError,
		"compile_output": p.seeCompileOutput,
		"no_output":      p.seeNoOutput,
		"launch":         p.seeLaunch,
		"relaunch":       p.seeRelaunch,
		"failed_start":   p.seeFailedStart,
		"late_attach":    p.seeLateAttach,
		"life":           p.seeLife,
		"pull":           p.seePull,
		"connections":    p.seeConnections,
		"burst":          p.seeBurst,
		"refused":        p.seeRefused,
	}
	scenario := scenarios[p.Scenario]
	if scenario == nil {
		return nil, fmt.Errorf("no such scenario")
	}
	seen, err := scenario()
	if err == nil && p.TLS != "" && p.Scenario != "refused" {
		seen["tls"] = p.versions()
	}
	return seen, err
}

// installed makes the image of the chaincode that scenarios launch, the first time.
func (p *peer) installed() error {
	if p.inspect(imageOf(p.Chaincode)) == nil {
		return nil
	}
	return p.install(imageOf(p.Chaincode), zipped(packed(500, source()...)), copying).Err
}

func (s *install) result() string {
	if s.Err != nil {
		return s.Err.Error()
	}
	return "ok"
}

// copying makes the output of a Go compile out of the input.
const copying = "set -e\ncd /chaincode/output\ncp /chaincode/input/src/chaincode .\nchmod 0755 chaincode\necho Done!"

// special makes what Node leaves: links, modes, long names.
const special = copying + `
mkdir -p node_modules/.bin
ln -s ../../chaincode node_modules/.bin/cc
chmod 0750 node_modules
echo private > private && chmod 0600 private
mkdir "$(cat /chaincode/input/src/a)"
touch "$(cat /chaincode/input/src/a)/$(cat /chaincode/input/src/b)"
echo 'to the error stream' >&2`

func source() []file {
	return []file{
		{"src/chaincode", chaincodeScript},
		{"src/a", strings.Repeat("a", longName)},
		{"src/b", strings.Repeat("b", longName)},
		{"META-INF/statedb/couchdb/indexes/index.json", "{}"},
	}
}

// Build with a compile container.
func (p *peer) seeBuild() (facts, error) {
	seen := p.install(imageOf(p.Name), zipped(packed(500, source()...)), special)
	files, err := listed(seen.Files)
	if err != nil {
		return nil, err
	}
	f := facts{
		"before":       seen.Before,
		"result":       seen.result(),
		"probe":        seen.Probe,
		"stat":         seen.Stat,
		"files":        files,
		"says":         saysAll(seen.Output, "Done!\n", "to the error stream\n"),
		"plain output": isPlain(seen.Output),
		"after":        p.class(p.inspect(imageOf(p.Name))),
	}
	// A second build of the same name replaces the image.
	again := p.install(imageOf(p.Name+"-again"), zipped(packed(500, source()...)), copying)
	f["again"] = again.result()
	return f, nil
}

// isPlain says that no heads of frames are left in a text.
func isPlain(text string) bool {
	return !strings.Contains(text, "\x00\x00\x00") && !strings.ContainsAny(text, "\x01\x02")
}

func saysAll(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// A package of type CAR: a plain tar with one file.
func (p *peer) seeCar() (facts, error) {
	script := "set -e; cp /chaincode/input/codepackage.car /chaincode/output/chaincode; chmod 0755 /chaincode/output/chaincode"
	seen := p.install(imageOf(p.Name), packed(500, file{"codepackage.car", chaincodeScript}), script)
	files, err := listed(seen.Files)
	return facts{"result": seen.result(), "files": files, "after": p.class(p.inspect(imageOf(p.Name)))}, err
}

// A compile that fails.
func (p *peer) seeCompileError() (facts, error) {
	// Longer than 127 bytes: the length in a frame's head would be no valid UTF-8.
	message := "chaincode.go:7:2: undefined: " + strings.Repeat("x", 150)
	script := "echo 'compiling'; echo '" + message + "' >&2; exit 2"
	seen := p.install(imageOf(p.Name), zipped(packed(500, source()...)), script)
	return facts{
		"code":  strings.Contains(seen.result(), "Error returned from build: 2 \""),
		"says":  saysAll(seen.result(), "compiling\n", message),
		"plain": isPlain(seen.result()),
		"image": p.class(p.inspect(imageOf(p.Name))),
	}, nil
}

// hang is when a compile of a second is given up, which takes three with eight of them on a busy machine: the peer itself never would.
const hang = 12 * time.Second

// 8 MB of output.
func (p *peer) seeCompileOutput() (facts, error) {
	const lines = 8 << 20 / 64
	script := fmt.Sprintf("%s\nyes %s | head -n %d\necho The end", copying, strings.Repeat("y", 63), lines)
	done := make(chan *install, 1)
	go func() { done <- p.install(imageOf(p.Name), zipped(packed(500, source()...)), script) }()
	var seen *install
	select {
	case seen = <-done:
	case <-time.After(hang):
		return facts{"result": "hangs", "lines": 0, "end": false}, nil
	}
	return facts{
		"result": seen.result(),
		"lines":  strings.Count(seen.Output, strings.Repeat("y", 63)),
		"end":    strings.Contains(seen.Output, "The end\n"),
	}, nil
}

// A compile that makes nothing is no error to a peer.
func (p *peer) seeNoOutput() (facts, error) {
	seen := p.install(imageOf(p.Name), zipped(packed(500, source()...)), "echo nothing")
	result := seen.result()
	if strings.Contains(result, "the compile left nothing in /chaincode/output") {
		result = "told"
	}
	return facts{"result": result, "after": p.class(p.inspect(imageOf(p.Name)))}, nil
}

// A launch with TLS files and attached output, and the end of the process.
func (p *peer) seeLaunch() (facts, error) {
	if err := p.installed(); err != nil {
		return nil, err
	}
	r, err := p.launch(p.Name, p.Name+":1", manner{tls: true, attach: true})
	if err != nil {
		return facts{"result": err.Error()}, nil
	}
	// The attach stands, and fsouza has half-closed it: what comes now must still arrive.
	r.life.tell("say it goes on")
	f := facts{
		"result":  "ok",
		"before":  r.before,
		"files":   r.life.files,
		"format":  r.life.format,
		"begins":  r.output.until(p.Name + ":1 starts"),
		"goes on": r.output.until("it goes on"),
		"lives":   r.lives(),
	}
	r.life.tell("complain to the error stream")
	f["error stream"] = r.output.until("to the error stream")
	r.life.tell("exit 7")
	code, err := r.end()
	if err != nil {
		return nil, fmt.Errorf("wait: %w", err)
	}
	f["code"] = code
	doing("waiting for the end of the attached output")
	<-r.output.ended
	f["attach ends"] = true
	f["plain"] = isPlain(r.output.text())
	p.clear(p.Name)
	return f, nil
}

// Launches of a name that is taken: by a process that lives, and by one that ended.
func (p *peer) seeRelaunch() (facts, error) {
	if err := p.installed(); err != nil {
		return nil, err
	}
	first, err := p.launch(p.Name, p.Name+":1", manner{})
	if err != nil {
		return nil, fmt.Errorf("the first launch: %w", err)
	}
	second, err := p.launch(p.Name, p.Name+":2", manner{tls: true})
	if err != nil {
		return nil, fmt.Errorf("the second launch: %w", err)
	}
	f := facts{"living": second.before}
	doing("waiting until the first process is gone")
	<-first.life.gone
	code, err := first.end()
	// By SIGTERM or by SIGKILL, whichever was first: no peer looks.
	f["first ended by order"] = code == 128+15 || code == 128+9
	f["wait of the first"] = p.class(err)
	f["second lives"] = second.lives()
	second.life.tell("exit 3")
	if f["code of the second"], err = second.end(); err != nil {
		return nil, fmt.Errorf("wait of the second: %w", err)
	}
	third, err := p.launch(p.Name, p.Name+":3", manner{tls: true})
	if err != nil {
		return nil, fmt.Errorf("the third launch: %w", err)
	}
	f["ended"] = third.before
	// A name that is taken is told, without stop and removal.
	_, err = p.create(p.Name, p.chaincode(imageOf(p.Chaincode), p.Name+":4"))
	f["taken"] = p.class(err)
	f["third lives"] = third.lives()
	p.clear(p.Name)
	f["removed"] = p.class(p.start(p.Name))
	return f, nil
}

// A start that fails ends the attached output.
func (p *peer) seeFailedStart() (facts, error) {
	if err := p.installed(); err != nil {
		return nil, err
	}
	p.clear(p.Name)
	body := p.chaincode(imageOf(p.Chaincode), p.Name+":1")
	body.Cmd, body.Attached = []string{"no-such-program"}, true
	if _, err := p.create(p.Name, body); err != nil {
		return nil, err
	}
	output, err := p.attach(p.Name, attached)
	if err != nil {
		return nil, err
	}
	output.read()
	doing("starting what cannot start")
	err = p.start(p.Name)
	f := facts{"refused": err != nil, "names the program": err != nil && strings.Contains(err.Error(), "no-such-program")}
	doing("waiting for the end of the attached output after a failed start")
	<-output.ended
	f["attach ends"] = true
	f["then"] = p.clear(p.Name)
	return f, nil
}

// Attach after the end, with logs=1.
func (p *peer) seeLateAttach() (facts, error) {
	id, err := p.create("", container{Image: p.Builder, Cmd: []string{"/bin/sh", "-c", "echo said before; exit 4"}, Attached: true})
	if err != nil {
		return nil, err
	}
	defer p.remove(id, byForce)
	if err := p.upload(id, "/chaincode/input", strings.NewReader(string(zipped(packed(500, source()...))))); err != nil {
		return nil, err
	}
	if err := p.start(id); err != nil {
		return nil, err
	}
	code, err := p.wait(id)
	if err != nil {
		return nil, err
	}
	output, err := p.attach(id, attached)
	if err != nil {
		return nil, err
	}
	defer output.leave()
	output.read()
	doing("reading what was said before")
	says := output.until("said before\n")
	// dockerd keeps this stream open for a next start; no peer waits for its end.
	again, err := p.wait(id)
	return facts{"code": code, "says": says, "code again": again, "again": p.class(err)}, nil
}

// idle is longer than moby's pool keeps a connection, and than the time between two heartbeats of Peitho's wait.
const idle = 34 * time.Second

// A chaincode that nobody asks anything for a while.
func (p *peer) seeLife() (facts, error) {
	if err := p.installed(); err != nil {
		return nil, err
	}
	r, err := p.launch(p.Name, p.Name+":1", manner{attach: true})
	if err != nil {
		return nil, err
	}
	doing("leaving it alone")
	<-time.After(idle)
	f := facts{"lives": r.lives(), "inspect": p.class(p.inspect(imageOf(p.Chaincode)))}
	r.life.tell("say still here")
	f["says"] = r.output.until("still here")
	r.life.tell("exit 5")
	if f["code"], err = r.end(); err != nil {
		return nil, err
	}
	f["after"] = p.clear(p.Name)[2]
	return f, nil
}

// The forms in which builder images are pulled.
func (p *peer) seePull() (facts, error) {
	f := facts{}
	for form, reference := range p.Pulls {
		doing("pulling %s", reference)
		pulled := p.class(p.pull(reference))
		if pulled != "ok" {
			pulled = "refused"
		}
		f[form] = []string{pulled, p.class(p.inspect(reference))}
	}
	return f, nil
}

// How many connections ten calls take after a first, among them one that is refused with a body on its way.
func (p *peer) seeConnections() (facts, error) {
	if err := p.installed(); err != nil {
		return nil, err
	}
	before := p.connections()
	for range 5 {
		if err := p.inspect(imageOf(p.Chaincode)); err != nil {
			return nil, err
		}
	}
	refused := p.upload("no-such-container", "/", strings.NewReader(string(tlsFiles(false))))
	for range 4 {
		if err := p.inspect(imageOf(p.Chaincode)); err != nil {
			return nil, err
		}
	}
	return facts{"refused": p.class(refused), "further connections": p.connections() - before}, nil
}

const (
	chaincodes = 20
	// A peer that is told to end leaves after this, whatever is open.
	patience = 5 * time.Second
)

// The end of a peer: all of its chaincode is stopped at once.
func (p *peer) seeBurst() (facts, error) {
	if err := p.installed(); err != nil {
		return nil, err
	}
	name := func(number int) string { return fmt.Sprintf("%s-%d", p.Name, number) }
	lives := make([]*running, chaincodes)
	errors := make([]error, chaincodes)
	each(func(number int) {
		lives[number], errors[number] = p.launch(name(number), name(number)+":1", manner{})
	})
	for number, err := range errors {
		if err != nil {
			return nil, fmt.Errorf("launch of %s: %w", name(number), err)
		}
	}
	answers := make([][]string, chaincodes)
	begun := time.Now()
	each(func(number int) { answers[number] = p.clear(name(number)) })
	within := time.Since(begun)
	removed, gone := 0, 0
	for number, l := range lives {
		if answers[number][0] == "ok" && answers[number][2] == "ok" {
			removed++
		}
		<-l.life.gone
		gone++
	}
	f := facts{"in time": within < patience, "removed": removed, "gone": gone}
	if within >= patience {
		f["after"] = within.String()
	}
	return f, nil
}

func each(work func(number int)) {
	var all sync.WaitGroup
	for number := range chaincodes {
		all.Add(1)
		go func() {
			defer all.Done()
			work(number)
		}()
	}
	all.Wait()
}

// What a peer says of the first call of an install, where it is not let in.
func (p *peer) seeRefused() (facts, error) {
	err := p.inspect(imageOf(p.Name))
	if err == nil {
		return facts{"says": "nothing: it was let in"}, nil
	}
	return facts{"says": err.Error()}, nil
}
