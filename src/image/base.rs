//! What registries say of images that Peitho did not build: bases and builders, for all that this module does with their names.
//! It decides which names are none of these, and asks `registry` for the others.

use super::{Error, Images};
use crate::names::ImageName;
use crate::registry::{Lookup, Pusher};

impl Images {
    /// What its registry says of an image that Peitho did not build.
    pub(super) async fn look_up(&self, name: &ImageName) -> Lookup {
        match self.withheld(name) {
            Some(missing) => missing,
            None => self.registries.look_up(name).await,
        }
    }

    /// The same for a build on it.
    pub(super) async fn base(&self, from: &ImageName) -> Lookup {
        match (self.withheld(from), &self.pusher) {
            (Some(missing), _) => missing,
            (None, Some(pusher)) => pusher.look_up(from).await,
            (None, None) => self.registries.look_up(from).await,
        }
    }

    /// The answer for what is in the repository of built images: those belong to their tenants, and the login that opens one
    /// of them opens all. No one is a builder or a base, and each is had under its peer's name.
    fn withheld(&self, name: &ImageName) -> Option<Lookup> {
        let pusher = self.pusher.as_ref()?;
        let place = self.registries.places().of(name);
        let is_built = pusher.reaches(name) || pusher.reaches(&place);
        is_built.then(|| {
            let words = "in the repository of what Peitho builds are images of tenants, which are no base and no builder";
            Lookup::Missing(words.to_owned())
        })
    }
}

/// A registry takes whole images only.
pub(super) fn no_base(pusher: &Pusher, base: &ImageName, cause: &str) -> Error {
    let cause = format!("its base {base} cannot be read: {cause}");
    pusher.refused(cause).into()
}
