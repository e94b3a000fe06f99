//! stub
use crate::image_spec::{ImageConfig, Layer};
use crate::names::ImageName;
use crate::registry::Registries;
use crate::store::Store;
use std::path::{Path, PathBuf};
pub(super) struct Base {
    pub(super) directory: PathBuf,
    pub(super) config: ImageConfig,
}
pub(super) struct Rootfs;
type Error = crate::runtime::Error;
impl Rootfs {
    pub(super) async fn open(_: &Path, _: Store, _: Registries) -> Result<Self, Error> {
        unimplemented!()
    }
    pub(super) async fn base(&self, _: &ImageName) -> Result<Base, Error> {
        unimplemented!()
    }
    pub(super) async fn layer(&self, _: &Layer) -> Result<PathBuf, Error> {
        unimplemented!()
    }
}
