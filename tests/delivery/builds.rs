//! Images as peers build them: the real builder, from the body that a peer sends.

use peitho::grant::Grant;
use peitho::image::Image;
use peitho::names::Tenant;
use secrecy::{ExposeSecret as _, SecretString};

use crate::world::{World, tar};

/// The end of the names that peers give.
pub(crate) const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

/// As a peer names the image of a chaincode.
pub(crate) fn name(chaincode: &str) -> String {
    format!("dev-peer0.org1.example.com-{chaincode}_1-{HASH}")
}

/// Bytes that no compression makes smaller.
pub(crate) fn noise(seed: &str, len: usize) -> Vec<u8> {
    let block = |n: usize| peitho::names::Digest::of(format!("{seed}{n}").as_bytes()).hex();
    let mut bytes: Vec<u8> = (0..len.div_ceil(64)).map(block).collect::<String>().into();
    bytes.truncate(len);
    bytes
}

impl World {
    /// Builds `program` on `base` for `tenant`, under the name `image`.
    pub(crate) async fn build(
        &self,
        tenant: &Tenant,
        image: &str,
        base: &str,
        program: &[u8],
    ) -> Image {
        let dockerfile = format!(
            "FROM {base}\nADD binpackage.tar /usr/local/bin\nLABEL org.hyperledger.fabric.chaincode.type=\"GOLANG\""
        );
        let package = tar(&[("chaincode", 0o755, program)]);
        let context = tar(&[
            ("Dockerfile", 0o644, dockerfile.as_bytes()),
            ("binpackage.tar", 0o644, &package),
        ]);
        let mut body = self.store.ingest().await.unwrap();
        body.append(&context).await.unwrap();
        let name = image.parse().unwrap();
        let images = self.images().await;
        images.build(tenant, &name, body).await.unwrap()
    }

    /// What a person of `tenant` logs in with, good for `seconds` from now.
    pub(crate) fn token(&self, tenant: &Tenant, seconds: i64) -> SecretString {
        self.grants.issue(&Grant::Images {
            tenant: tenant.clone(),
            until: jiff::Timestamp::now().as_second() + seconds,
        })
    }

    /// The same as the value of `Authorization`.
    pub(crate) fn login(&self, user: &str, tenant: &Tenant, seconds: i64) -> String {
        basic(user, &self.token(tenant, seconds))
    }

    /// With another token than a person's.
    pub(crate) fn login_with(&self, user: &str, grant: &Grant) -> String {
        basic(user, &self.grants.issue(grant))
    }
}

fn basic(user: &str, token: &SecretString) -> String {
    use base64::Engine as _;
    let login = format!("{user}:{}", token.expose_secret());
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    format!("Basic {login}")
}
