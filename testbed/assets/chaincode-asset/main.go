// Keeps values under keys, through the contract API: what most chaincode in the wild is built on, and as large.
package main

import (
	"fmt"
	"log"

	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"
)

// Asset is the contract: Put and Get.
type Asset struct{ contractapi.Contract }

// Put stores value under key.
func (*Asset) Put(ctx contractapi.TransactionContextInterface, key, value string) error {
	return ctx.GetStub().PutState(key, []byte(value))
}

// Get reads what Put stored.
func (*Asset) Get(ctx contractapi.TransactionContextInterface, key string) (string, error) {
	value, err := ctx.GetStub().GetState(key)
	if err != nil {
		return "", err
	}
	if value == nil {
		return "", fmt.Errorf("%s does not exist", key)
	}
	return string(value), nil
}

func main() {
	chaincode, err := contractapi.NewChaincode(&Asset{})
	if err != nil {
		log.Fatal(err)
	}
	if err := chaincode.Start(); err != nil {
		log.Fatal(err)
	}
}
