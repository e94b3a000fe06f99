module testbed/chaincode

go 1.21.0
