//! The last step of a build: an image exists when its record does. `image` calls it when all that the record names is durable;
//! here it is also taken back, where part of that was collected before the record was there.

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
        if let Err(error) = self.take_back(tenant, image, before).await {
            tracing::error!(
                %tenant, image = %image.name, %error,
                "image: the record of {} could not be taken back, and parts of that image may be lost; install it again",
                image.name
            );
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

    /// Gives the name of `image` what it had `before`, unless another build has written it since.
    async fn take_back(
        &self,
        tenant: &Tenant,
        image: &Image,
        before: Option<Image>,
    ) -> Result<(), Error> {
        if self.built(tenant, &image.name).await?.as_ref() != Some(image) {
            return Ok(());
        }
        let name = image.name.full();
        match before {
            Some(before) => {
                let put = self.store.put_ref(RefKind::Image, tenant, &name, &before);
                put.await?;
            }
            None => drop(self.store.remove_ref(RefKind::Image, tenant, &name).await?),
        }
        Ok(())
    }
}
