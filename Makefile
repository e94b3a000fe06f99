build:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --target $(shell uname -m)-unknown-linux-gnu
