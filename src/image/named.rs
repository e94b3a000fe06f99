//! The last step of a build: an image exists when its record does. `image` calls it when all that the record names is durable;
//! here it is also taken back, where part of that was collected before the record was there. Builds of one name do that one after
//! the other: equal packages make equal records, and by the record alone nobody could tell whose it is that is taken back.

use super::{Error, Image, Images};
use crate::names::Tenant;
use crate::store::{self, Blob, RefKind};

impl Images {
    /// Writes the record of `image`, and looks whether what it names is still there: a push may take hours. Where it is not, the
    /// name has what it had before. `config` is the image's configuration, whose length the record does not say.
    pub(super) async fn name(
        &self,
        tenant: &Tenant,
        image: &Image,
        config: Option<Blob>,
    ) -> Result<(), Error> {
        let _turn = self.turn(tenant, &image.name).await;
        let name = image.name.full();
        let before = match self.built(tenant, &image.name).await {
            Ok(before) => before,
            // It is of no use to anybody.
            Err(Error::Store(store::Error::Corrupt { .. })) => None,
            Err(error) => return Err(error),
        };
        self.store
            .put_ref(RefKind::Image, tenant, &name, image)
            .await?;
        let held = self.are_held(image, config).await;
        if matches!(held, Ok(true)) {
            return Ok(());
        }
        match self.take_back(tenant, image, config, before).await {
            Ok(TakenBack::Yes) => {}
            Ok(TakenBack::WholeByNow) => return Ok(()),
            Err(error) => tracing::error!(
                %tenant, image = %image.name, %error,
                "image: the record of {} could not be taken back, and parts of that image may be lost; install it again",
                image.name
            ),
        }
        Err(held.map_or_else(Into::into, |_| Error::Collected(image.name.clone())))
    }

    async fn are_held(&self, image: &Image, config: Option<Blob>) -> Result<bool, store::Error> {
        let named = [Some(image.layer.blob), config, image.manifest];
        for blob in named.into_iter().flatten() {
            if !self.store.holds(&blob).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives the name of `image` what it had `before`, unless another process that shares the store has written it since, or
    /// brought what was missing: between the looks for that and the record there is one request, and no lock.
    async fn take_back(
        &self,
        tenant: &Tenant,
        image: &Image,
        config: Option<Blob>,
        before: Option<Image>,
    ) -> Result<TakenBack, Error> {
        if matches!(self.are_held(image, config).await, Ok(true)) {
            return Ok(TakenBack::WholeByNow);
        }
        if self.built(tenant, &image.name).await?.as_ref() != Some(image) {
            return Ok(TakenBack::Yes);
        }
        let name = image.name.full();
        let Some(before) = before else {
            self.store.remove_ref(RefKind::Image, tenant, &name).await?;
            return Ok(TakenBack::Yes);
        };
        self.store
            .put_ref(RefKind::Image, tenant, &name, &before)
            .await?;
        // It was not named for a moment. Its configuration is as old as its manifest.
        if !self.are_held(&before, None).await? {
            tracing::error!(
                %tenant, image = %image.name,
                "image: parts of what {} was before are lost; install it again",
                image.name
            );
        }
        Ok(TakenBack::Yes)
    }
}

/// What became of a record that names what is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TakenBack {
    /// The name has another one again, or none.
    Yes,
    /// It is left: what was missing has come.
    WholeByNow,
}
