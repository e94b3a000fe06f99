//go:build tools

// Package tools holds the programs' modules in go.mod; nothing compiles it.
package tools

import _ "github.com/hyperledger/fabric/common/tools/cryptogen"
