module testbed/pause

go 1.21.0
