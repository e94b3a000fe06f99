//! What registries say of images that Peitho did not build: bases and builders, for all that this module does with their names.
//! It decides which names are none of these, and asks `registry` for the others.

use super::{Error, Images, refused};
use crate::names::ImageName;
use crate::registry::{Found, Lookup, Pusher};

impl Images {
    /// What its registry says of an image that Peitho did not build.
    pub(super) async fn look_up(&self, name: &ImageName) -> Lookup {
        match self.withheld(name) {
            Some(missing) => missing,
            None => self.registries.look_up(name).await,
        }
    }

    /// The base of a build; `None` where its registry is out of reach, and it is not needed whole.
    ///
    /// # Errors
    /// [`Error::Refused`] for one that its registry does not have, [`Error::Push`] where a whole image is needed.
    pub(super) async fn base_of_build(
        &self,
        from: &ImageName,
    ) -> Result<Option<Box<Found>>, Error> {
        match (self.base(from).await, &self.pusher) {
            (Lookup::Found(found), _) => Ok(Some(found)),
            (Lookup::Missing(reason), _) => Err(refused(from, reason)),
            (Lookup::Unknown(cause), Some(pusher)) => Err(no_base(pusher, from, &cause)),
            (Lookup::Unknown(cause), None) => {
                self.tell_unknown(from, &cause);
                Ok(None)
            }
        }
    }

    async fn base(&self, from: &ImageName) -> Lookup {
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
fn no_base(pusher: &Pusher, base: &ImageName, cause: &str) -> Error {
    let cause = format!("its base {base} cannot be read: {cause}");
    pusher.refused(cause).into()
}
