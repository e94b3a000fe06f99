//! The requests that write to a registry (OCI distribution specification 1.1, "Pushing"). Beside the library that reads,
//! because that one does not tell what a push needs: the `Retry-After` of a refusal, and where to go on when a mount was not
//! granted. `push` decides what is sent.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use http::{StatusCode, header};
use oci_client::errors::OciDistributionError;
use reqwest::{Body, Client, RequestBuilder, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;

use super::super::access::{self, Access, CONNECT_TIMEOUT, USER_AGENT};
use super::super::answer::{Refusal, cut};
use super::Stop;
use crate::config::Scheme;
use crate::names::Digest;
use crate::store::Blob;

/// The longest a request without content takes.
const ANSWER: Duration = Duration::from_secs(30);
/// The longest a registry takes no further byte of a blob.
const STALL: Duration = Duration::from_secs(60);
/// The longest it thinks over a whole blob: with storage elsewhere it copies it once more.
const DIGESTION: Duration = Duration::from_secs(300);
/// As much of a refusal is read: more is no refusal of a registry.
const LONGEST_WORDS: usize = 64 << 10;

/// The bytes of a blob.
pub(super) type Content = BoxStream<'static, std::io::Result<Bytes>>;

/// One repository, for writing.
pub(super) struct Wire {
    client: Client,
    /// `https://host/v2/repository/`.
    repository: Url,
}

/// What a request is authorized with.
pub(super) enum Login {
    Anonymous,
    Basic(access::Login),
    Bearer(SecretString),
}

impl Login {
    /// By `token`, where the registry's token service gave one.
    pub(super) fn new(token: Option<String>, login: Option<&access::Login>) -> Self {
        match (token, login) {
            (Some(token), _) => Self::Bearer(token.into()),
            (None, Some(login)) => Self::Basic(login.clone()),
            (None, None) => Self::Anonymous,
        }
    }
}

/// What became of the wish to upload.
pub(super) enum Opened {
    /// The registry had the blob in the other repository.
    Mounted,
    /// Here the blob is expected.
    At(Url),
}

impl Wire {
    pub(super) fn new(access: &Access, repository: &str) -> anyhow::Result<Self> {
        let scheme = match access.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let host = access::asked(&access.host);
        let authorities = access.authorities.iter();
        let authorities = authorities.map(|der| reqwest::Certificate::from_der(der));
        // No read timeout: that would also end an upload, which is silent until its end.
        let client = Client::builder()
            .tls_certs_merge(authorities.collect::<Result<Vec<_>, _>>()?)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(USER_AGENT)
            .build()
            .context("cannot make a client for the registry of built images")?;
        Ok(Self {
            client,
            repository: Url::parse(&format!("{scheme}://{host}/v2/{repository}/"))?,
        })
    }

    pub(super) async fn has_blob(&self, login: &Login, digest: &Digest) -> Result<bool, Stop> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let asked = self.authorized(login, self.client.head(url.clone()), &url);
        let answer = asked.timeout(ANSWER).send().await.map_err(unsent)?;
        match answer.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refusal(answer).await),
        }
    }

    /// Begins an upload; where the registry has the blob in the repository `from`, and lets us know, that is all.
    pub(super) async fn open(
        &self,
        login: &Login,
        digest: &Digest,
        from: Option<&str>,
    ) -> Result<Opened, Stop> {
        let mut url = self.url("blobs/uploads/")?;
        if let Some(from) = from {
            let mut query = url.query_pairs_mut();
            query.append_pair("mount", &digest.to_string());
            query.append_pair("from", from);
        }
        let asked = self.authorized(login, self.client.post(url.clone()), &url);
        // Some registries want it said.
        let asked = asked.header(header::CONTENT_LENGTH, 0).timeout(ANSWER);
        let answer = asked.send().await.map_err(unsent)?;
        match answer.status() {
            StatusCode::CREATED => Ok(Opened::Mounted),
            StatusCode::ACCEPTED => {
                let place = answer.headers().get(header::LOCATION);
                let place = place.and_then(|it| url.join(it.to_str().ok()?).ok());
                let told =
                    || Refusal::Unknown("the registry names no place for uploads".to_owned());
                Ok(Opened::At(place.ok_or_else(told)?))
            }
            _ => Err(refusal(answer).await),
        }
    }

    /// Sends a blob whole. It may take as long as it moves.
    pub(super) async fn send(
        &self,
        login: &Login,
        mut place: Url,
        blob: &Blob,
        content: Content,
    ) -> Result<(), Stop> {
        place
            .query_pairs_mut()
            .append_pair("digest", &blob.digest.to_string());
        let (taken, mut moves) = watch::channel(());
        let content = content.inspect_ok(move |_| taken.send_replace(()));
        let asked = self.authorized(login, self.client.put(place.clone()), &place);
        let asked = asked
            .header(header::CONTENT_LENGTH, blob.size)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(Body::wrap_stream(content));
        let mut sent = std::pin::pin!(asked.send());
        let answer = loop {
            tokio::select! {
                answer = &mut sent => break answer,
                moved = tokio::time::timeout(STALL, moves.changed()) => match moved {
                    Ok(Ok(())) => {}
                    // All of it is on its way.
                    Ok(Err(_)) => match tokio::time::timeout(DIGESTION, &mut sent).await {
                        Ok(answer) => break answer,
                        Err(_) => return Err(silent("the end of a blob", DIGESTION)),
                    },
                    Err(_) => return Err(silent("the middle of a blob", STALL)),
                },
            }
        };
        let answer = answer.map_err(unsent)?;
        match answer.status() {
            StatusCode::CREATED => Ok(()),
            // A registry that was started anew has forgotten what was begun.
            StatusCode::NOT_FOUND => Err(passing(refusal(answer).await)),
            _ => Err(refusal(answer).await),
        }
    }

    /// The digest of the manifest that stands under `version`, a digest or a tag; also `None` where the registry does not tell.
    pub(super) async fn manifest(
        &self,
        login: &Login,
        version: &str,
        media_type: &str,
    ) -> Result<Option<Digest>, Stop> {
        let url = self.url(&format!("manifests/{version}"))?;
        let asked = self.authorized(login, self.client.head(url.clone()), &url);
        let asked = asked.header(header::ACCEPT, media_type).timeout(ANSWER);
        let answer = asked.send().await.map_err(unsent)?;
        match answer.status() {
            StatusCode::OK => {
                let digest = answer.headers().get("docker-content-digest");
                Ok(digest.and_then(|digest| digest.to_str().ok()?.parse().ok()))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refusal(answer).await),
        }
    }

    /// Writes `manifest` as `version`, a digest or a tag.
    pub(super) async fn put_manifest(
        &self,
        login: &Login,
        version: &str,
        media_type: &str,
        manifest: &[u8],
    ) -> Result<(), Stop> {
        let url = self.url(&format!("manifests/{version}"))?;
        let asked = self.authorized(login, self.client.put(url.clone()), &url);
        let asked = asked
            .header(header::CONTENT_TYPE, media_type)
            .timeout(ANSWER);
        let answer = asked.body(manifest.to_vec()).send().await.map_err(unsent)?;
        match answer.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(refusal(answer).await),
        }
    }

    fn url(&self, rest: &str) -> Result<Url, Stop> {
        let url = self.repository.join(rest);
        url.map_err(|error| Refusal::Unknown(format!("{rest}: {error}")).into())
    }

    /// `asked` with the login, unless `url` leads elsewhere: storage that the registry sends us to gets no password
    /// (distribution specification, "Authorization"; CVE-2020-15157).
    fn authorized(&self, login: &Login, asked: RequestBuilder, url: &Url) -> RequestBuilder {
        if url.origin() != self.repository.origin() {
            return asked;
        }
        match login {
            Login::Anonymous => asked,
            Login::Basic(login) => {
                asked.basic_auth(&login.username, Some(login.password.expose_secret()))
            }
            Login::Bearer(token) => asked.bearer_auth(token.expose_secret()),
        }
    }
}

fn unsent(error: reqwest::Error) -> Stop {
    // The address may hold a signature that lets others write.
    OciDistributionError::RequestError(error.without_url()).into()
}

fn silent(what: &str, limit: Duration) -> Stop {
    let limit = limit.as_secs();
    Refusal::Passing(format!(
        "the registry gave no sign within {limit} s at {what}"
    ))
    .into()
}

fn passing(stop: Stop) -> Stop {
    let refusal = Refusal::Passing(stop.refusal.to_string());
    Stop { refusal, ..stop }
}

/// What `answer` refuses, in the registry's words.
async fn refusal(answer: Response) -> Stop {
    let after = retry_after(&answer);
    let mut answer = answer;
    let mut words = Vec::new();
    while let Ok(Ok(Some(part))) = tokio::time::timeout(ANSWER, answer.chunk()).await {
        words.extend_from_slice(&part);
        if words.len() > LONGEST_WORDS {
            break;
        }
    }
    let status = answer.status();
    let refusal = match (serde_json::from_slice(&words), status.as_u16()) {
        (_, code @ (429 | 500..)) => {
            let words = cut(&String::from_utf8_lossy(&words));
            Refusal::Passing(format!("the registry answered {code}: {words}"))
        }
        (Ok(envelope), _) => {
            let url = String::new();
            OciDistributionError::RegistryError { envelope, url }.into()
        }
        (Err(_), 401 | 403) => Refusal::Unknown(format!("denied: the registry answered {status}")),
        (Err(_), _) => {
            let words = cut(&String::from_utf8_lossy(&words));
            Refusal::Unknown(format!("the registry answered {status}: {words}"))
        }
    };
    Stop { refusal, after }
}

/// In seconds; the other form, a date, is not used by registries.
fn retry_after(answer: &Response) -> Option<Duration> {
    let after = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    after.trim().parse().ok().map(Duration::from_secs)
}
