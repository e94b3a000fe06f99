package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand"
	"path"
	"sort"
	"strings"
)

func dockerfile(runtime string) string {
	return "FROM " + runtime + "\nADD binpackage.tar /usr/local/bin\n" +
		"LABEL org.hyperledger.fabric.chaincode.type=\"GOLANG\" \\\n      org.hyperledger.fabric.version=\"2.5.0\"\n" +
		"ENV CORE_CHAINCODE_BUILDLEVEL=2.5.0"
}

// buildContext is gzip(tar) that is written while it is sent.
type buildContext struct {
	gzip *gzip.Writer
	tar  *tar.Writer
}

func newContext(to io.Writer) *buildContext {
	compressed := gzip.NewWriter(to)
	return &buildContext{compressed, tar.NewWriter(compressed)}
}

// add takes no notice of errors: the reader's end tells of them, as with a peer.
func (c *buildContext) add(name string, content []byte) {
	c.tar.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o100644})
	c.tar.Write(content)
}

// flush is what the deferred Close calls of a peer do when a compile failed: archive and compression are complete without their end.
func (c *buildContext) flush() { c.end() }

func (c *buildContext) end() {
	c.tar.Close()
	c.gzip.Close()
}

// file is a member of an upload.
type file struct {
	name, content string
}

// packed is a tar of files as peers make it: types in the mode, uid and gid 500.
func packed(owner int, files ...file) []byte {
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Size: int64(len(f.content)), Mode: 0o100644, Uid: owner, Gid: owner}
		if err := writer.WriteHeader(header); err != nil {
			panic(err)
		}
		io.WriteString(writer, f.content)
	}
	writer.Close()
	return out.Bytes()
}

func zipped(content []byte) []byte {
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	writer.Write(content)
	writer.Close()
	return out.Bytes()
}

// listed is what an archive holds, sorted: mode, name, and the target of a link. The directory itself is left out: some send it,
// some do not, and peers store all the same.
func listed(archive []byte) ([]string, error) {
	var lines []string
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := reader.Next()
		if err == io.EOF {
			sort.Strings(lines)
			return lines, nil
		}
		if err != nil {
			return lines, fmt.Errorf("the download is no whole tar: %w", err)
		}
		if path.Clean(header.Name) == "." {
			continue
		}
		name := shortened(strings.TrimPrefix(header.Name, "./"))
		switch header.Typeflag {
		case tar.TypeDir:
			lines = append(lines, fmt.Sprintf("d %04o %s", header.Mode&0o7777, strings.TrimSuffix(name, "/")))
		case tar.TypeSymlink:
			lines = append(lines, fmt.Sprintf("l %s -> %s", name, header.Linkname))
		case tar.TypeReg:
			lines = append(lines, fmt.Sprintf("f %04o %s %d", header.Mode&0o7777, name, header.Size))
		default:
			lines = append(lines, fmt.Sprintf("type %c %s", header.Typeflag, name))
		}
	}
}

// shortened makes a long run of one letter readable.
func shortened(name string) string {
	for _, letter := range []string{"a", "b"} {
		long := strings.Repeat(letter, longName)
		name = strings.ReplaceAll(name, long, fmt.Sprintf("%s*%d", letter, longName))
	}
	return name
}

// longName is more than the 100 bytes of a tar's own field, and two of them more than its 255 with a prefix.
const longName = 140

// tlsFiles are what a 2.x peer uploads, in random order, by absolute names; 1.4 has three of them.
func tlsFiles(is1_4 bool) []byte {
	const dir = "/etc/hyperledger/fabric/"
	files := []file{
		{dir + "client.key", "base64 of a key"},
		{dir + "client.crt", "base64 of a certificate"},
		{dir + "peer.crt", "a certificate\n"},
	}
	if !is1_4 {
		files = append(files, file{dir + "client_pem.key", "a key\n"}, file{dir + "client_pem.crt", "a certificate of the client\n"})
	}
	rand.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	return zipped(packed(0, files...))
}
