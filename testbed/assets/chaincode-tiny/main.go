// What a builder compiles where only its words matter: it imports nothing, so that they come in a second.
package main

func main() { print(version) }
