// Imports what of the standard library a chaincode of the contract API needs, and no more: after it a builder has that compiled.
package main

import (
	_ "embed"
	_ "encoding/gob"
	_ "encoding/json"
	_ "hash/fnv"
	_ "html/template"
	_ "io/ioutil"
	_ "net/http"
	_ "net/http/httputil"
	_ "net/mail"
	_ "text/tabwriter"
)

func main() { print(version) }
