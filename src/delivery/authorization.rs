//! Who asks, and whether he may: pods and agents by the token that lies in their Secret (`Bearer`), people by one that was
//! made for them, as the password of the user that is called after their tenant (`Basic`, which every client of registries
//! can). There is no token service: what such a client would get there, it has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use jiff::Timestamp;

use super::Delivery;
use super::failure::Failure;
use crate::grant::Grant;
use crate::names::{CompileKey, Digest, SpareId, Tenant};

impl Delivery {
    /// What the request's token allows.
    pub(super) fn granted(&self, headers: &HeaderMap) -> Result<Grant, Failure> {
        let credentials = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '));
        let grant = match credentials {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                self.grants.read(token.trim())
            }
            Some((scheme, login)) if scheme.eq_ignore_ascii_case("basic") => {
                return self.logged_in(login.trim());
            }
            _ => {
                return Err(Failure::unauthorized(
                    "a token is needed: log in as your tenant, with what `peitho images token` prints as the password",
                ));
            }
        };
        match grant {
            Some(grant) => in_time(grant),
            None => Err(foreign()),
        }
    }

    /// The grant of a person, whose user has to be the tenant: else a login would tell a wrong one.
    fn logged_in(&self, login: &str) -> Result<Grant, Failure> {
        let login = STANDARD.decode(login).ok();
        let login = login.and_then(|login| String::from_utf8(login).ok());
        let (user, token) = (login.as_deref())
            .and_then(|login| login.split_once(':'))
            .ok_or_else(|| Failure::unauthorized("the login is not user:password in base64"))?;
        match self.grants.read(token) {
            Some(Grant::Images { tenant, .. }) if tenant.as_str() != user => {
                Err(Failure::unauthorized(format!(
                    "this token is for the tenant {tenant}, which has to be the user too"
                )))
            }
            Some(grant @ Grant::Images { .. }) => in_time(grant),
            Some(_) => Err(Failure::unauthorized(
                "this token is a pod's; `peitho images token` makes one for people",
            )),
            None => Err(foreign()),
        }
    }

    /// The tenant whose images the request may read.
    pub(super) fn may_read(&self, headers: &HeaderMap) -> Result<Tenant, Failure> {
        match self.granted(headers)? {
            Grant::Images { tenant, .. } => Ok(tenant),
            other => Err(Failure::denied(format!(
                "this token is for {}, not for images",
                told(&other)
            ))),
        }
    }

    /// Whether a request with `grant` may fetch the layer `digest`.
    pub(super) async fn may_fetch(&self, grant: Grant, digest: &Digest) -> Result<(), Failure> {
        let Grant::Layer {
            container,
            digest: granted,
        } = grant
        else {
            return Err(Failure::denied(format!(
                "this token is for {}, not for a layer",
                told(&grant)
            )));
        };
        if granted != *digest {
            return Err(Failure::denied(format!(
                "this token is for the layer {granted} of container {container}, not for {digest}"
            )));
        }
        match self.containers.stands(&container, digest).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::denied(format!(
                "container {container} was removed, or created anew with another layer: its tokens went with it"
            ))),
            Err(error) => Err(Failure::unavailable(format!(
                "cannot tell whether container {container} still exists: {error}"
            ))),
        }
    }

    /// Whether the request comes from the agent of compile `key`.
    pub(super) fn may_report(&self, headers: &HeaderMap, key: &CompileKey) -> Result<(), Failure> {
        match self.granted(headers)? {
            Grant::Compile { key: granted } if granted == *key => Ok(()),
            Grant::Compile { key: granted } => Err(Failure::denied(format!(
                "this token is for compile {granted}, not for {key}"
            ))),
            other => Err(Failure::denied(format!(
                "this token is for {}, not for a compile",
                told(&other)
            ))),
        }
    }

    /// Whether the request comes from the agent that waits as the spare `id`.
    pub(super) fn may_wait(&self, headers: &HeaderMap, id: &SpareId) -> Result<(), Failure> {
        match self.granted(headers)? {
            Grant::Spare { id: granted } if granted == *id => Ok(()),
            other => Err(Failure::denied(format!(
                "this token is for {}, not for the container {id} that waits for a compile",
                told(&other)
            ))),
        }
    }
}

fn told(grant: &Grant) -> String {
    match grant {
        Grant::Layer { container, .. } => format!("the layer of container {container}"),
        Grant::Compile { .. } => "a compile".to_owned(),
        Grant::Spare { id } => format!("the container {id} that waits for a compile"),
        Grant::Images { tenant, .. } => format!("the images of {tenant}"),
    }
}

fn foreign() -> Failure {
    Failure::unauthorized("the token is not one of this instance")
}

/// A person's grant ends.
fn in_time(grant: Grant) -> Result<Grant, Failure> {
    match &grant {
        Grant::Images { until, .. } if *until < Timestamp::now().as_second() => {
            let until = Timestamp::from_second(*until)
                .map_or_else(|_| "long ago".to_owned(), |until| format!("at {until}"));
            Err(Failure::unauthorized(format!(
                "the token ran out {until}; `peitho images token` makes another"
            )))
        }
        _ => Ok(grant),
    }
}
