//! Images that the engine does not have: it pulls them itself, with the logins of the section `images`.

use bollard::auth::DockerCredentials;
use bollard::query_parameters::CreateImageOptions;
use futures::TryStreamExt as _;
use secrecy::ExposeSecret as _;

use super::Engine;
use super::request::Bound;
use crate::names::ImageName;
use crate::runtime::Error;

impl Engine {
    /// Has the engine pull `image`.
    ///
    /// # Errors
    /// [`Error::Refused`] with the engine's words, [`Error::Unavailable`].
    pub(super) async fn pull(&self, image: &ImageName) -> Result<(), Error> {
        let login = self.settings.logins.of(image).await;
        let credentials = login.map(|login| DockerCredentials {
            username: Some(login.username),
            password: Some(login.password.expose_secret().to_owned()),
            serveraddress: Some(image.registry().to_owned()),
            ..DockerCredentials::default()
        });
        tracing::info!(%image, "the Docker Engine pulls an image");
        let pulled = self
            .requests
            .call(Bound::Pull, || async {
                let options = CreateImageOptions {
                    from_image: Some(image.full()),
                    ..CreateImageOptions::default()
                };
                let progress = self
                    .docker
                    .create_image(Some(options), None, credentials.clone());
                // A failed pull answers 200 as well and says so in the stream of its progress.
                progress.try_for_each(|_| std::future::ready(Ok(()))).await
            })
            .await;
        pulled.map_err(|failure| {
            self.requests
                .error(failure, &format!("pulling image {image}"))
        })
    }
}
