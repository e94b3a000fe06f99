//! Containers of this host, by a runtime such as runc: no cluster, no daemon. Base images are held in the store and
//! unpacked once ([`Rootfs`]). It knows neither peers nor how an image was built.

mod rootfs;

pub use rootfs::{Base, Rootfs, RootfsError};
