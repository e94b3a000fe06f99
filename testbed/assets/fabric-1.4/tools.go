//go:build tools

// Package tools holds the programs' modules in go.mod; nothing compiles it.
package tools

import (
	_ "github.com/hyperledger/fabric/common/tools/configtxgen"
	_ "github.com/hyperledger/fabric/common/tools/cryptogen"
	_ "github.com/hyperledger/fabric/orderer"
	_ "github.com/hyperledger/fabric/peer"
)
