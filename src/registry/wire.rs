//! The requests that write to a registry (OCI distribution specification 1.1, "Pushing"), and the one that asks how who comes is
//! let in. Beside the library that reads, because that one does not tell what a push needs: the `Retry-After` of a refusal, and
//! where to go on when a mount was not granted. `push` decides what is sent; `session` introduces readers.

use std::time::Duration;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use http::{StatusCode, header};
use oci_client::errors::OciDistributionError;
use reqwest::{Body, Client, RequestBuilder, Response, Url};
use tokio::sync::watch;

use super::access::{self, Access};
use super::answer::{Refusal, cut};
use super::bring::Content;
use super::session::{Renewed, Session};
use crate::config::Scheme;
use crate::names::Digest;
use crate::store::Blob;

/// The longest a request without content takes.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// The longest a registry takes no further byte of a blob.
const STALL: Duration = Duration::from_secs(60);
/// The longest it thinks over a whole blob: with storage elsewhere it copies it once more.
const DIGESTION: Duration = Duration::from_secs(300);
/// As much of an answer is read: neither a refusal nor a token is longer.
const LONGEST_WORDS: usize = 64 << 10;

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
#[error("{refusal}")]
pub(super) struct Stop {
    pub(super) refusal: Refusal,
    /// When the registry wants to be asked again.
    pub(super) after: Option<Duration>,
}

impl<E: Into<Refusal>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self {
            refusal: error.into(),
            after: None,
        }
    }
}

/// One repository, for writing.
pub(super) struct Wire {
    client: Client,
    /// `https://host/v2/repository/`.
    repository: Url,
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
        // No read timeout: that would also end an upload, which is silent until its end.
        let client = access::plain_client(&access.authorities)?.build();
        let client = client.context("cannot make a client for the registry of built images")?;
        Self::by(client, access, repository)
    }

    /// With `client`.
    pub(super) fn by(client: Client, access: &Access, repository: &str) -> anyhow::Result<Self> {
        let scheme = match access.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let host = access::asked(&access.host);
        Ok(Self {
            client,
            repository: Url::parse(&format!("{scheme}://{host}/v2/{repository}/"))?,
        })
    }

    /// Does what the registry asks of who comes, and no more: whether it lets in then, or lets in everybody to some of its
    /// images, is told by who asks for one.
    pub(super) async fn introduce(&self, session: &mut Session) -> Result<(), Stop> {
        let mut url = self.repository.clone();
        url.set_path("/v2/");
        let asked = self.client.get(url).timeout(ANSWER);
        let answer = asked.send().await.map_err(unsent)?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let renewed = session.renew(&self.client, &self.repository, answer.headers());
            renewed.await?;
        }
        Ok(())
    }

    pub(super) async fn has_blob(
        &self,
        session: &mut Session,
        digest: &Digest,
    ) -> Result<bool, Stop> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let answer = self
            .asked(session, || self.client.head(url.clone()))
            .await?;
        match answer.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refusal(answer).await),
        }
    }

    /// Begins an upload; where the registry has the blob in the repository `from`, and lets us know, that is all.
    pub(super) async fn open(
        &self,
        session: &mut Session,
        digest: &Digest,
        from: Option<&str>,
    ) -> Result<Opened, Stop> {
        let mut url = self.url("blobs/uploads/")?;
        if let Some(from) = from {
            let mut query = url.query_pairs_mut();
            query.append_pair("mount", &digest.to_string());
            query.append_pair("from", from);
        }
        // Some registries want the length said.
        let open = || {
            self.client
                .post(url.clone())
                .header(header::CONTENT_LENGTH, 0)
        };
        let answer = self.asked(session, open).await?;
        match answer.status() {
            StatusCode::CREATED => Ok(Opened::Mounted),
            StatusCode::ACCEPTED => {
                let place = answer.headers().get(header::LOCATION);
                let place = place.and_then(|it| it.to_str().ok());
                Ok(Opened::At(upload(&url, place)?))
            }
            _ => Err(refusal(answer).await),
        }
    }

    /// Sends a blob whole. It may take as long as it moves.
    pub(super) async fn send(
        &self,
        session: &Session,
        mut place: Url,
        blob: &Blob,
        content: Content,
    ) -> Result<(), Stop> {
        place
            .query_pairs_mut()
            .append_pair("digest", &blob.digest.to_string());
        let (taken, mut moves) = watch::channel(());
        let content = content.inspect_ok(move |_| taken.send_replace(()));
        let asked = self.authorized(session, self.client.put(place.clone()), &place);
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
            StatusCode::UNAUTHORIZED if session.ran_out(answer.headers()) => {
                Err(passing(refusal(answer).await))
            }
            _ => Err(refusal(answer).await),
        }
    }

    /// The digest of the manifest that stands under `version`, a digest or a tag; also `None` where the registry does not tell.
    pub(super) async fn manifest(
        &self,
        session: &mut Session,
        version: &str,
        media_type: &str,
    ) -> Result<Option<Digest>, Stop> {
        let url = self.url(&format!("manifests/{version}"))?;
        let head = || {
            self.client
                .head(url.clone())
                .header(header::ACCEPT, media_type)
        };
        let answer = self.asked(session, head).await?;
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
        session: &mut Session,
        version: &str,
        media_type: &str,
        manifest: &[u8],
    ) -> Result<(), Stop> {
        let url = self.url(&format!("manifests/{version}"))?;
        let put = || {
            let asked = self.client.put(url.clone());
            asked
                .header(header::CONTENT_TYPE, media_type)
                .body(manifest.to_vec())
        };
        let answer = self.asked(session, put).await?;
        match answer.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(refusal(answer).await),
        }
    }

    fn url(&self, rest: &str) -> Result<Url, Stop> {
        let url = self.repository.join(rest);
        url.map_err(|error| Refusal::Unknown(format!("{rest}: {error}")).into())
    }

    /// The answer to what `make` makes for this registry; where that asks for a login, the answer with one.
    async fn asked(
        &self,
        session: &mut Session,
        make: impl Fn() -> RequestBuilder,
    ) -> Result<Response, Stop> {
        let send = async |session: &Session| {
            let asked = session.authorized(make()).timeout(ANSWER);
            asked.send().await.map_err(unsent)
        };
        let mut answer = send(session).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let renewed = session.renew(&self.client, &self.repository, answer.headers());
            if renewed.await? == Renewed::Yes {
                answer = send(session).await?;
            }
        }
        if answer.status() == StatusCode::UNAUTHORIZED && session.ran_out(answer.headers()) {
            return Err(passing(refusal(answer).await));
        }
        Ok(answer)
    }

    /// `asked` with the login, unless `url` leads elsewhere: storage that the registry sends us to gets no password
    /// (distribution specification, "Authorization"; CVE-2020-15157).
    fn authorized(&self, session: &Session, asked: RequestBuilder, url: &Url) -> RequestBuilder {
        match url.origin() == self.repository.origin() {
            true => session.authorized(asked),
            false => asked,
        }
    }
}

/// Where what is opened at `url` goes, by the registry's `Location`.
fn upload(url: &Url, location: Option<&str>) -> Result<Url, Refusal> {
    let told = |told: &str| Refusal::Unknown(told.to_owned());
    let place = location.and_then(|it| url.join(it).ok());
    let place = place.ok_or_else(|| told("the registry names no place for uploads"))?;
    if url.scheme() == "https" && place.scheme() != "https" {
        return Err(told(
            "the registry names a place for uploads without TLS; behind a proxy it has to be told its own address",
        ));
    }
    Ok(place)
}

pub(super) fn unsent(error: reqwest::Error) -> Stop {
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
    refusal_of("the registry", answer).await
}

/// What `answer` of `who` refuses, in its words.
pub(super) async fn refusal_of(who: &str, mut answer: Response) -> Stop {
    let after = retry_after(&answer);
    let words = words(&mut answer).await;
    let status = answer.status();
    let refusal = match (serde_json::from_slice(&words), status.as_u16()) {
        (_, code @ (429 | 500..)) => {
            let words = cut(&String::from_utf8_lossy(&words));
            Refusal::Passing(format!("{who} answered {code}: {words}"))
        }
        (Ok(envelope), _) => {
            let url = String::new();
            OciDistributionError::RegistryError { envelope, url }.into()
        }
        (Err(_), 401 | 403) => Refusal::Denied(format!("{who} answered {status}")),
        (Err(_), _) => {
            let words = cut(&String::from_utf8_lossy(&words));
            Refusal::Unknown(format!("{who} answered {status}: {words}"))
        }
    };
    Stop { refusal, after }
}

/// As much of an answer as is read.
pub(super) async fn words(answer: &mut Response) -> Vec<u8> {
    let mut words = Vec::new();
    while let Ok(Ok(Some(part))) = tokio::time::timeout(ANSWER, answer.chunk()).await {
        words.extend_from_slice(&part);
        if words.len() > LONGEST_WORDS {
            break;
        }
    }
    words
}

/// In seconds; the other form, a date, is not used by registries.
fn retry_after(answer: &Response) -> Option<Duration> {
    let after = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    after.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_go_where_the_registry_says_but_not_out_of_tls() {
        let by = |scheme: &str, location| {
            let url = format!("{scheme}://r.io/v2/a/blobs/uploads/?mount=b");
            let place = upload(&url.parse().unwrap(), location);
            place.map(|it| it.to_string()).ok()
        };
        let at = |url: &str| Some(url.to_owned());
        let near = "/v2/a/blobs/uploads/1?_state=x";
        assert_eq!(
            by("https", Some(near)),
            at("https://r.io/v2/a/blobs/uploads/1?_state=x")
        );
        assert_eq!(by("https", Some("https://s/1")), at("https://s/1"));
        assert_eq!(by("http", Some("http://r.io/1")), at("http://r.io/1"));
        assert_eq!(by("https", Some("http://r.io/1")), None);
        assert_eq!(by("https", None), None);
    }
}
