//go:build tools

// Package tools holds the program's module in go.mod; nothing compiles it.
package tools

import _ "github.com/versity/versitygw/cmd/versitygw"
