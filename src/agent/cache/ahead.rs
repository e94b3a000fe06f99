//! What is in the directory before it is known for which compile: an agent that waits for one fetches what there is, and goes on from there once it
//! has its plan. What that does not begin with, since it was wiped or replaced meanwhile, the command never sees. `spare` and `cache` use it.

use std::path::PathBuf;
use std::sync::Mutex;

use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{Cache, Part, Plan, Trouble};
use crate::agent::client::Client;
use crate::archive::Known;
use crate::names::{Digest, SpareId};

/// How long the parts are waited for: nobody waits for this agent.
const PATIENCE_MS: u64 = 5 * 60 * 1000;

/// Parts that are unpacked in the directory, one over the other.
#[derive(Default)]
pub(in crate::agent) struct Ahead {
    pub(super) parts: Vec<Digest>,
    pub(super) known: Known,
}

/// What Peitho has.
#[derive(Deserialize)]
struct Parts {
    parts: Vec<Part>,
    most: u64,
}

impl Cache {
    /// Of the agent that waits as the spare `id`.
    pub(in crate::agent) fn of_spare(client: Client, id: &SpareId, directory: PathBuf) -> Self {
        Self {
            client,
            path: format!("/spare/{id}/cache"),
            directory,
            ahead: Mutex::default(),
        }
    }

    /// The same that finds in the directory what was fetched `ahead`.
    pub(in crate::agent) fn after(self, ahead: Ahead) -> Self {
        Self {
            ahead: Mutex::new(ahead),
            ..self
        }
    }

    /// Fills the directory as far as that can be done now. What goes wrong is no loss: the compile fetches it itself then.
    pub(in crate::agent) async fn fetch_ahead(&self) -> Ahead {
        let (parts, most) = match self.asked::<Parts>().await {
            Ok(Some(Parts { parts, most })) => (parts, most),
            Ok(None) => return Ahead::default(),
            Err(error) => {
                tracing::info!(%error, "nothing of the compiler's cache is fetched ahead");
                return Ahead::default();
            }
        };
        let plan = Plan {
            parts,
            give: None,
            most,
            give_most: None,
            patience_ms: PATIENCE_MS,
        };
        match self.bring(&plan, Ahead::default(), Instant::now()).await {
            Ok(known) => Ahead {
                parts: plan.parts.iter().map(|it| it.digest).collect(),
                known,
            },
            Err(Trouble::Occupied(_)) => Ahead::default(),
            Err(error) => {
                tracing::info!(%error, "what of the compiler's cache was fetched ahead is dropped");
                if let Err(error) = self.put_away().await {
                    tracing::warn!(%error, directory = ?self.directory, "it cannot be emptied");
                }
                Ahead::default()
            }
        }
    }

    /// What was fetched ahead and `plan` begins with; else the directory is empty.
    pub(super) async fn begun(
        &self,
        plan: Option<&Plan>,
        started: Instant,
    ) -> Result<Ahead, Trouble> {
        let ahead = {
            let ahead = self.ahead.lock();
            std::mem::take(&mut *ahead.expect("nothing panics while it holds this"))
        };
        if ahead.parts.is_empty() {
            return Ok(ahead);
        }
        let planned = plan.into_iter().flat_map(|plan| &plan.parts);
        let begins = planned.map(|it| &it.digest).take(ahead.parts.len());
        if begins.eq(&ahead.parts) {
            return Ok(ahead);
        }
        let emptied = self.put_away().await;
        let leaving = emptied.map_err(|source| Trouble::Directory {
            path: self.directory.clone(),
            source,
        })?;
        let replaced = plan.filter(|plan| !plan.parts.is_empty());
        if let (Some(leaving), Some(plan)) = (leaving, replaced) {
            // What comes in its place is measured by what is free.
            let _ = timeout_at(plan.deadline(started), leaving).await;
        }
        Ok(Ahead::default())
    }
}
