//! `peitho images token` and `peitho images ca`: what a person's client needs to pull images from a server. The server need
//! not be asked; who may read its keys is whom it would let in.

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;

use super::{Sources, print};
use crate::config::Config;
use crate::grant::{Grant, Grants};
use crate::names::Tenant;
use crate::serve;

/// The longest life of a token: it cannot be revoked alone.
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

pub(super) const TOKEN_EXAMPLES: &str = "\
Examples:
  peitho images token | crane auth login localhost:8081 --username default --password-stdin
  peitho images token --tenant org1 --for 30m
  kubectl --namespace peitho exec deploy/peitho -- /peitho images token --for 8h";

pub(super) const CA_EXAMPLES: &str = "\
Examples:
  peitho images ca > peitho-ca.crt
  kubectl --namespace peitho exec deploy/peitho -- /peitho images ca > peitho-ca.crt";

/// A token for a person.
#[derive(Debug, Args)]
pub(super) struct Token {
    /// Whose images; also the user to log in as
    #[arg(long, value_name = "TENANT", default_value = "default")]
    tenant: Tenant,
    /// How long it is good, such as 30m, 8h or 2h30m; a year at the most
    #[arg(long = "for", value_name = "TIME", default_value = "24h")]
    life: SignedDuration,
    /// Which server.
    #[command(flatten)]
    sources: Sources,
}

impl Token {
    pub(super) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Makes one and prints it.
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let Self { tenant, life, .. } = self;
        let until = until(Timestamp::now(), life)?;
        let known = || config.tenants.names();
        if tenant != Tenant::default_tenant() && !known().any(|it| it == tenant) {
            let known: Vec<String> = known().map(|tenant| tenant.to_string()).collect();
            bail!(
                "there is no tenant {tenant}; tenants.known has {}",
                match known.is_empty() {
                    true => "none, so all images are those of default".to_owned(),
                    false => known.join(", "),
                }
            );
        }
        let material = serve::instance(config).await?;
        let grants = Grants::new(*material.token_key.expose_secret());
        let token = grants.issue(&Grant::Images { tenant, until });
        print(&format!("{}\n", token.expose_secret()));
        Ok(())
    }
}

/// Prints the certificate of the authority that signs the delivery listener's.
pub(super) async fn authority(config: &Config) -> anyhow::Result<()> {
    print(&serve::instance(config).await?.ca_cert_pem);
    Ok(())
}

/// The last second of a life that begins `now`.
fn until(now: Timestamp, life: SignedDuration) -> anyhow::Result<i64> {
    ensure!(
        life.is_positive() && life <= LONGEST,
        "--for {life:#}: more than nothing and a year at the most, such as 8h"
    );
    let until = now.checked_add(life).context("the clock of this machine")?;
    Ok(until.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_has_an_end() {
        let now = Timestamp::from_second(1_000).unwrap();
        let of = |life: &str| until(now, life.parse().unwrap()).ok();
        assert_eq!(of("24h"), Some(1_000 + 24 * 3600));
        assert_eq!(of("1h30m"), Some(1_000 + 5400));
        for life in ["0s", "-1h", "9000h"] {
            assert_eq!(of(life), None, "{life}");
        }
    }
}
