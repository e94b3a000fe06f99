//! What requests to a registry are authorized with: nothing, until an answer asks for a login and says for
//! which (RFC 9110, section 11; "Token Authentication" of the distribution project). One session for each attempt, since
//! tokens run out. `push` opens it, `wire` sends with it; the library that reads is given what [`authorization`] found. That
//! one would send a password to any token service, and takes a fault of the registry or its token service for a no.

use http::header::{self, HeaderMap};
use http::{StatusCode, header::HeaderValue};
use oci_client::secrets::RegistryAuth;
use reqwest::{Client, RequestBuilder, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::access::Access;
use super::answer::{Refusal, cut};
use super::logins::Login;
use super::wire::{ANSWER, Stop, Wire, refusal_of, unsent, words};

/// What `login`, with `client`, reads `repository` of the registry of `access` with, asked now.
pub(super) async fn authorization(
    client: &Client,
    access: &Access,
    login: Option<Login>,
    repository: &str,
) -> Result<RegistryAuth, Refusal> {
    let asked = async {
        let wire = Wire::by(client.clone(), access, repository);
        let wire = wire.map_err(|error| Refusal::Unknown(format!("{error:#}")))?;
        let mut session = Session::reading(login, repository);
        wire.introduce(&mut session).await?;
        Ok(session.for_reading())
    };
    asked.await.map_err(|stop: Stop| stop.refusal)
}

/// One attempt's.
pub(super) struct Session {
    login: Option<Login>,
    /// What tokens are asked for, as `repository:a/b:pull,push`.
    scopes: Vec<String>,
    authorization: Authorization,
}

enum Authorization {
    None,
    Basic(Login),
    Bearer(SecretString),
}

/// What an answer asks for.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        error: Option<String>,
    },
}

/// What a token service gives; some say it one way, some the other.
#[derive(Deserialize)]
struct Given {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
}

/// Whether the same request may end otherwise now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewed {
    Yes,
    No,
}

impl Session {
    /// With `login`, where one is known, to write to `repository` and to mount from `from`.
    pub(super) fn new(login: Option<Login>, repository: &str, from: Option<&str>) -> Self {
        let own = format!("repository:{repository}:pull,push");
        let from = from.filter(|from| *from != repository);
        let from = from.map(|from| format!("repository:{from}:pull"));
        Self {
            login,
            scopes: std::iter::once(own).chain(from).collect(),
            authorization: Authorization::None,
        }
    }

    /// The same to read from `repository`.
    fn reading(login: Option<Login>, repository: &str) -> Self {
        Self {
            login,
            scopes: vec![format!("repository:{repository}:pull")],
            authorization: Authorization::None,
        }
    }

    /// The same for the library that reads.
    fn for_reading(self) -> RegistryAuth {
        match self.authorization {
            Authorization::None => RegistryAuth::Anonymous,
            Authorization::Basic(Login { username, password }) => {
                RegistryAuth::Basic(username, password.expose_secret().to_owned())
            }
            Authorization::Bearer(token) => RegistryAuth::Bearer(token.expose_secret().to_owned()),
        }
    }

    pub(super) fn authorized(&self, asked: RequestBuilder) -> RequestBuilder {
        match &self.authorization {
            Authorization::None => asked,
            Authorization::Basic(login) => basic(asked, login),
            Authorization::Bearer(token) => asked.bearer_auth(token.expose_secret()),
        }
    }

    /// Does what the `headers` of a 401 of `registry` ask for.
    pub(super) async fn renew(
        &mut self,
        client: &Client,
        registry: &Url,
        headers: &HeaderMap,
    ) -> Result<Renewed, Stop> {
        let challenge = challenge(headers);
        match (&self.authorization, challenge, &self.login) {
            (Authorization::None, Some(Challenge::Bearer { realm, service, .. }), _) => {
                let token = match self.token(client, registry, &realm, &service).await {
                    // Some give nothing where one of the scopes is not for this user.
                    Err(stop) if self.scopes.len() > 1 && !stop.refusal.may_pass() => {
                        self.scopes.truncate(1);
                        self.token(client, registry, &realm, &service).await?
                    }
                    token => token?,
                };
                self.authorization = Authorization::Bearer(token);
                Ok(Renewed::Yes)
            }
            (Authorization::None, _, Some(login)) => {
                self.authorization = Authorization::Basic(login.clone());
                Ok(Renewed::Yes)
            }
            _ => Ok(Renewed::No),
        }
    }

    /// Whether the 401 with these `headers` is about a token that was good a moment ago.
    pub(super) fn ran_out(&self, headers: &HeaderMap) -> bool {
        let is_told = matches!(
            challenge(headers),
            Some(Challenge::Bearer { error: Some(error), .. }) if error == "invalid_token"
        );
        is_told && matches!(self.authorization, Authorization::Bearer(_))
    }

    async fn token(
        &self,
        client: &Client,
        registry: &Url,
        realm: &str,
        service: &Option<String>,
    ) -> Result<SecretString, Stop> {
        let mut url = Url::parse(realm).map_err(|error| {
            Refusal::Unknown(format!("the registry names no token service: {error}"))
        })?;
        if registry.scheme() == "https" && url.scheme() != "https" {
            let told = "the registry names a token service without TLS; no password goes there";
            return Err(Refusal::Unknown(told.to_owned()).into());
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            for scope in &self.scopes {
                query.append_pair("scope", scope);
            }
        }
        let asked = client.get(url).timeout(ANSWER);
        let asked = match &self.login {
            Some(login) => basic(asked, login),
            None => asked,
        };
        let mut answer = asked.send().await.map_err(unsent)?;
        let status = answer.status();
        match status {
            StatusCode::OK => {
                let given = serde_json::from_slice::<Given>(&words(&mut answer).await).ok();
                let token = given.and_then(|given| given.token.or(given.access_token));
                let told =
                    || Refusal::Unknown("the token service's answer has no token".to_owned());
                Ok(token.ok_or_else(told)?)
            }
            _ if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                Err(refusal_of("the token service", answer).await)
            }
            _ => {
                let words = cut(&String::from_utf8_lossy(&words(&mut answer).await));
                let words = match words.as_str() {
                    "" => format!("the token service answered {status}"),
                    words => words.to_owned(),
                };
                Err(Refusal::Denied(words).into())
            }
        }
    }
}

fn basic(asked: RequestBuilder, login: &Login) -> RequestBuilder {
    asked.basic_auth(&login.username, Some(login.password.expose_secret()))
}

/// The one that can be met best: tokens before passwords.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(header::WWW_AUTHENTICATE);
    let texts = values
        .iter()
        .filter_map(|it: &HeaderValue| it.to_str().ok());
    let mut found = None;
    for text in texts {
        for challenge in http_auth::parse_challenges(text).ok()? {
            let of = |name: &str| {
                let mut params = challenge.params.iter();
                let param = params.find(|(it, _)| it.eq_ignore_ascii_case(name));
                param.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                return Some(Challenge::Bearer {
                    realm: of("realm")?,
                    service: of("service"),
                    error: of("error"),
                });
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                found = Some(Challenge::Basic);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(values: &[&'static str]) -> Option<Challenge> {
        let values = values.iter().map(|it| HeaderValue::from_static(it));
        let name = || header::WWW_AUTHENTICATE;
        challenge(&values.map(|value| (name(), value)).collect())
    }

    #[test]
    fn what_a_registry_asks_for_is_read_as_registries_write_it() {
        let harbor = r#"Bearer realm="https://h/service/token",service="harbor-registry",scope="repository:a/b:pull,push""#;
        let bearer = |error: Option<&str>| Challenge::Bearer {
            realm: "https://h/service/token".to_owned(),
            service: Some("harbor-registry".to_owned()),
            error: error.map(str::to_owned),
        };
        assert_eq!(asks(&[harbor]), Some(bearer(None)));
        assert_eq!(asks(&["Basic realm=\"x\"", harbor]), Some(bearer(None)));
        let ended = r#"bearer realm="https://h/service/token",service="harbor-registry",error="invalid_token""#;
        assert_eq!(asks(&[ended]), Some(bearer(Some("invalid_token"))));
        assert_eq!(asks(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(asks(&["Bearer service=\"without a realm\""]), None);
        assert_eq!(asks(&["\u{20}"]), None);
        assert_eq!(asks(&[]), None);
    }

    #[test]
    fn a_token_is_asked_for_both_repositories() {
        let scopes = |from| Session::new(None, "a/b", from).scopes;
        let own = "repository:a/b:pull,push";
        assert_eq!(scopes(Some("c")), [own, "repository:c:pull"]);
        assert_eq!(scopes(Some("a/b")), [own]);
        assert_eq!(scopes(None), [own]);
    }
}
