// Chaincode for tests: Put and Get, and what a test needs to see of a process: its version, its end, its greeting.
//
// It uses the plain shim, since the compile of everything behind the contract API is what costs time in a test.
package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/hyperledger/fabric-chaincode-go/shim"
	pb "github.com/hyperledger/fabric-protos-go/peer"
)

// A test that wants to see the true start and end of each process listens here; nobody else does.
const greetingAddress = "10.88.0.1:7999"

type chaincode struct{}

func (chaincode) Init(shim.ChaincodeStubInterface) pb.Response { return shim.Success(nil) }

func (chaincode) Invoke(stub shim.ChaincodeStubInterface) pb.Response {
	function, args := stub.GetFunctionAndParameters()
	switch {
	case function == "Put" && len(args) == 2:
		if err := stub.PutState(args[0], []byte(args[1])); err != nil {
			return shim.Error(err.Error())
		}
		return shim.Success(nil)
	case function == "Get" && len(args) == 1:
		value, err := stub.GetState(args[0])
		if err != nil {
			return shim.Error(err.Error())
		}
		if value == nil {
			return shim.Error(args[0] + " does not exist")
		}
		return shim.Success(value)
	case function == "version":
		return shim.Success([]byte(version))
	case function == "pid":
		host, _ := os.Hostname()
		return shim.Success([]byte(host + " " + strconv.Itoa(os.Getpid())))
	case function == "env" && len(args) == 1:
		return shim.Success([]byte(os.Getenv(args[0])))
	case function == "eat":
		for eaten := [][]byte{}; ; {
			piece := make([]byte, 1<<20)
			for i := range piece {
				piece[i] = 1
			}
			eaten = append(eaten, piece)
		}
	case function == "exit" && len(args) == 1:
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return shim.Error(err.Error())
		}
		fmt.Fprintln(os.Stderr, "chaincode exits with", code, "as it was told")
		os.Exit(code)
	}
	return shim.Error("unknown function " + function)
}

// greet tells a listening test who runs. The connection stays open, so that its end is the end of the process.
func greet() net.Conn {
	connection, err := net.DialTimeout("tcp", greetingAddress, time.Second)
	if err != nil {
		return nil
	}
	host, _ := os.Hostname()
	fmt.Fprintf(connection, "hello %s %s %d\n", os.Getenv("CORE_CHAINCODE_ID_NAME"), host, os.Getpid())
	return connection
}

func main() {
	fmt.Fprintln(os.Stderr, "chaincode", version, "starts as", os.Getenv("CORE_CHAINCODE_ID_NAME"))
	connection := greet()
	time.Sleep(startDelay)
	err := shim.Start(chaincode{})
	if connection != nil {
		connection.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaincode ends:", err)
		os.Exit(1)
	}
}
