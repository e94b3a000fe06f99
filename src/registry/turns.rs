//! The places of an image, asked in turn until one has what is wanted: where the image was found before, its mirrors, and at last
//! where it is for everybody. A place that is passed over is told in the log. What the last one says is the answer, with its place
//! where the image's name does not tell it. `look_up`, `bring` and `pull` say what is asked of each.

use super::Registries;
use super::answer::Refusal;
use crate::names::ImageName;

/// Which place it is that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There are others.
    Earlier,
    /// Where the image is for everybody, nodes too.
    Last,
}

impl Registries {
    /// What `work` gets of the first place of `name` that has it; `first` is where it was found. The inner error is what the last
    /// place says.
    ///
    /// # Errors
    /// What ends `work` and is none of a place.
    pub(super) async fn first_that_has<T, E, F>(
        &self,
        name: &ImageName,
        first: Option<&ImageName>,
        work: impl Fn(ImageName, Turn) -> F,
    ) -> Result<Result<T, Refusal>, E>
    where
        F: Future<Output = Result<Result<T, Refusal>, E>>,
    {
        let last = self.0.places.of(name);
        let mirrors = self.0.places.mirrors(name);
        let first = first.filter(|first| **first != last);
        let others = mirrors.iter().filter(|mirror| Some(*mirror) != first);
        for place in first.into_iter().chain(others) {
            match work(place.clone(), Turn::Earlier).await? {
                Ok(found) => return Ok(Ok(found)),
                Err(refusal) => tracing::warn!(
                    image = %name, mirror = %place, error = %refusal,
                    "image: {name} is not to be had from the mirror {}; the next place is asked", place.registry()
                ),
            }
        }
        let asked = work(last.clone(), Turn::Last).await?;
        Ok(asked.map_err(|refusal| refusal.at(&last, name)))
    }
}
