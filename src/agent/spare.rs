//! `peitho agent spare`: the main process of a pod that was made ahead of need. It fetches what the compiler kept, asks Peitho what to compile, by
//! a request that stays open, and is the agent of that compile from then on, as `compile` has it. It serves one: then the pod is over.

use http::StatusCode;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::cache::{Ahead, Cache};
use super::client::{self, Client, patiently};
use super::compile::{self, GIVING, TAKING, TERMINATED};
use super::place::Place;
use super::report::{PATIENCE, is_passing};
use crate::names::{CompileKey, SpareId};

/// Bytes of the answer: a command is some hundred.
const ANSWER_BODY: usize = 1 << 20;

/// Arguments of `peitho agent spare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it works
    #[command(flatten)]
    pub place: Place,
    /// The id of this container, 32 hexadecimal digits
    #[arg(long)]
    pub id: SpareId,
}

/// Why nothing was compiled, or not reported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Peitho does not answer, or knows nothing of this container.
    #[error("waiting for a compile: {0}")]
    Waiting(#[from] client::Error),
    /// The compile could not be reported.
    #[error(transparent)]
    Compile(#[from] compile::Error),
}

/// What there is to compile.
#[derive(Deserialize)]
struct Work {
    key: CompileKey,
    command: Vec<String>,
    token: String,
}

/// Waits for a compile, runs it and reports it; gives the exit code that was reported. `terminated` ends the waiting, and is for the compile what it is
/// for [`compile::run`].
///
/// # Errors
/// When there is no Peitho for long, and as [`compile::run`].
pub async fn run(args: Args, terminated: CancellationToken) -> Result<u8, Error> {
    let waiting = terminated.run_until_cancelled(begun(&args));
    let Some(begun) = waiting.await else {
        return Ok(TERMINATED);
    };
    let (work, client, ahead) = begun?;
    let key = work.key;
    let cache = Cache::new(client.clone(), &key, args.place.cache.clone()).after(ahead);
    let compile = compile::Args {
        place: args.place,
        key,
        giving: GIVING,
        taking: TAKING,
        command: work.command.into_iter().map(Into::into).collect(),
    };
    let ran = compile::run_with(compile, client, cache, terminated);
    Ok(ran.await?)
}

/// What to compile, the client that has its token, and what of its cache is there.
async fn begun(args: &Args) -> Result<(Work, Client, Ahead), Error> {
    let client = Client::new(&args.place.address, &args.place.credentials)?;
    let cache = Cache::of_spare(client.clone(), &args.id, args.place.cache.clone());
    // First: until this asks, no compile waits for it.
    let ahead = cache.fetch_ahead().await;
    let path = format!("/spare/{}/work", args.id);
    loop {
        let asked = || async {
            let answer = client.get(&path).await?;
            match answer.status() {
                StatusCode::NO_CONTENT => Ok(None),
                _ => client.parsed(&path, answer, ANSWER_BODY).await.map(Some),
            }
        };
        let Some(work) = patiently::<Option<Work>, _, _>(PATIENCE, is_passing, asked).await? else {
            continue;
        };
        let accept = format!("{path}/{}", work.key);
        // Where the answer was lost, nothing else tells it again: who asks what to do hears nothing any more.
        let accepted = || client.put(&accept, client::empty());
        match patiently(PATIENCE, client::Error::is_passing, accepted).await {
            Ok(()) => {}
            // It came too late, or to a Peitho that has started anew: that knows what this is for, or will not need it.
            Err(error) if error.is_unknown() => continue,
            Err(error) => return Err(error.into()),
        }
        let with_token = client.with_token(&work.token);
        let own = with_token.ok_or_else(|| client.broken(&path, "not a token"))?;
        return Ok((work, own, ahead));
    }
}
