//! The orders for compiles: a Secret and a Pod, both named by the key, so that a second replica or a
//! restarted Peitho joins the run (design D7). Called through the trait in `kubernetes`.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Kubernetes;
use super::compile_pod;
use super::evidence::{ContainerState, Evidence};
use super::follow::Follow;
use super::hand_over::spare_of;
use super::hold;
use super::remove::Until;
use super::verdict::Verdict;
use crate::names::CompileKey;
use crate::names::kubernetes as names;
use crate::runtime::compile_agent::{self, OUT_OF_MEMORY, write_notice};
use crate::runtime::spares::Taken;
use crate::runtime::{CompileSpec, Error, Exit, Milestone, Milestones};
use crate::store::spool::Spool;

/// After how long without a start the log says what is waited for.
const NOTICE_AFTER: Duration = Duration::from_secs(3);
/// How often a run is begun anew when what was there under its names goes away.
const ATTEMPTS: usize = 3;

impl Kubernetes {
    pub(super) async fn run_compile(&self, spec: &CompileSpec) -> Result<Exit, Error> {
        // What was made ahead of need is this run's until it is over.
        let (pod, owner, spare) = {
            let _turn = self.compiles.turn(&spec.key).await;
            let beginning = self.compile_begun(spec);
            beginning.instrument(tracing::debug_span!("order")).await?
        };
        let mut follow = Follow::new(self.watch.follow(&pod), self.settings.scheduling_grace);
        let (name, uid) = (
            owner.name.unwrap_or_default(),
            owner.uid.unwrap_or_default(),
        );
        let of = match spare {
            Some(_) => hold::Pod::Ahead,
            None => hold::Pod::Own,
        };
        let verdict = tokio::select! {
            verdict = self.end_with_notices(&mut follow, spec) => verdict,
            never = self.hold(&name, &uid, of) => match never {},
        };
        match verdict {
            Verdict::NeverStarted { reason } => Err(Error::NeverStarted(reason)),
            Verdict::Exited(exit) => {
                let evidence = follow.evidence();
                if let Some(words) = evidence.lacks_room() {
                    let name = &evidence.name;
                    return Err(Error::OutOfRoom(format!("pod {name} was evicted: {words}")));
                }
                match last_words(&evidence) {
                    // The agent's own failure, which it could not report any other way.
                    Some(words) => Err(Error::NeverStarted(words)),
                    None => Ok(exit),
                }
            }
            Verdict::Starting { .. } | Verdict::Running { .. } => {
                unreachable!("the loop ends with final verdicts only")
            }
        }
    }

    pub(super) async fn discard_compile(&self, key: &CompileKey) -> Result<(), Error> {
        let name = names::compile(&self.settings.instance, key);
        // The pod first: the Secret's end would take it along, but without waiting for its process.
        if let Some(pod) = self.read_pod(&name).await? {
            self.end(&pod, Until::Gone).await?;
        }
        let secret = self.read_secret(&name).await?;
        // One whose Secret somebody has deleted is known to this process, if it had the run.
        let spares = &self.settings.spares;
        let known = || spares.of_compile(key).map(|id| names::spare(&id));
        let spare = secret.as_ref().and_then(spare_of).map(str::to_owned);
        if let Some(spare) = spare.or_else(known) {
            self.discard_named(&spare).await?;
        }
        spares.forget_compile(key);
        // It says what else is the run's, so it goes last.
        match secret {
            Some(secret) => self.delete_secret(&secret).await,
            None => Ok(()),
        }
    }

    /// Pod and Secret of the run, new or joined; and what it holds of a pod that was made ahead of need.
    async fn compile_begun(
        &self,
        spec: &CompileSpec,
    ) -> Result<(Pod, ObjectMeta, Option<Taken>), Error> {
        for _ in 0..ATTEMPTS {
            let taken = self.take_spare(spec)?;
            let Some(owner) = self.compile_secret(spec, taken.as_ref()).await? else {
                continue;
            };
            if let Some((pod, taken)) = self.spare_of_run(spec, &owner, taken).await? {
                return Ok((pod, owner, Some(taken)));
            }
            let pod = compile_pod::pod(&spec.into(), &self.settings, &owner)?;
            self.see_to_pull_secret(&pod).await?;
            let name = pod.name_any();
            match self.create_needed(&pod).await {
                Ok(created) => {
                    self.note_missed(spec);
                    spec.milestones.reach(Milestone::Made);
                    return Ok((created, owner, None));
                }
                Err(failure) if failure.is_taken() => {}
                Err(failure) => return Err(failure.into_error(&format!("creating pod {name}"))),
            }
            if let Some(there) = self.read_pod(&name).await? {
                let shown = Evidence::of(&there, None, Instant::now());
                let joinable =
                    shown.owner == owner.uid && shown.deleting.is_none() && !shown.is_over();
                if joinable {
                    return Ok((there, owner, None));
                }
                // Left by a Peitho that ended before it could clean up.
                self.end(&there, Until::Gone).await?;
            }
        }
        Err(Error::Refused(format!(
            "the pod of compile {} was made and deleted {ATTEMPTS} times by others; see whether two \
             Peithos have the instance name {}",
            spec.key, self.settings.instance
        )))
    }

    /// The Secret of the run, new or found; `None` when it went just now. A new one names what was `taken` for it.
    async fn compile_secret(
        &self,
        spec: &CompileSpec,
        taken: Option<&Taken>,
    ) -> Result<Option<ObjectMeta>, Error> {
        let token = compile_agent::token(&self.grants, &spec.key);
        let mut secret = compile_pod::secret(&spec.into(), &self.settings, &token);
        if let Some(taken) = taken {
            // Whatever comes of the request: the Secret may be there.
            taken.name();
            let annotations = secret.metadata.annotations.get_or_insert_default();
            annotations.insert(names::SPARE_NAME.to_owned(), names::spare(taken.id()));
        }
        let name = names::compile(&self.settings.instance, &spec.key);
        match self.requests.create(&self.secrets, &secret).await {
            Ok(created) => Ok(Some(created.metadata)),
            Err(failure) if failure.is_taken() => {
                let found = self.read_secret(&name).await?;
                if let (Some(taken), Some(found)) = (taken, &found)
                    && spare_of(found) != Some(&names::spare(taken.id()))
                {
                    // It was there before.
                    taken.unname();
                }
                Ok(found.filter(|metadata| metadata.deletion_timestamp.is_none()))
            }
            Err(failure) => Err(failure.into_error(&format!("creating secret {name}"))),
        }
    }

    /// Waits for the end; what it waits for before the start goes into the log, each thing once.
    async fn end_with_notices(&self, follow: &mut Follow, spec: &CompileSpec) -> Verdict {
        let log = &spec.log;
        let mut notice_at = Some(Instant::now() + NOTICE_AFTER);
        let mut said: Vec<&'static str> = Vec::new();
        let mut short = None;
        loop {
            let verdict = follow.verdict();
            note_way(&follow.evidence(), &spec.milestones);
            if verdict.is_final() {
                self.explain_kill(&verdict, &follow.evidence(), log).await;
                return verdict;
            }
            let starting = matches!(verdict, Verdict::Starting { .. });
            self.make_way_for(&follow.evidence(), &mut short);
            if starting
                && notice_at.is_none_or(|at| Instant::now() >= at)
                && let Some((what, text)) = awaited(&follow.evidence())
                && !said.contains(&what)
            {
                said.push(what);
                write_notice(log, &text).await;
            }
            notice_at = notice_at.filter(|at| starting && Instant::now() < *at);
            follow.news(&verdict, notice_at).await;
        }
    }

    /// A peer sees 137 and the log: here the log says by whom.
    async fn explain_kill(&self, verdict: &Verdict, evidence: &Evidence, log: &Spool) {
        if *verdict != Verdict::Exited(Exit { code: 137 }) {
            return;
        }
        let text = match &evidence.status {
            Some((reason, _)) if reason == "DeadlineExceeded" => {
                compile_agent::timed_out(self.settings.compile_timeout.as_secs())
            }
            Some((reason, message)) => format!("the compile was ended: {reason}: {message}"),
            None if evidence.main.is_out_of_memory() => OUT_OF_MEMORY.to_owned(),
            None => return,
        };
        write_notice(log, &text).await;
    }
}

/// How far the pod has come.
fn note_way(evidence: &Evidence, milestones: &Milestones) {
    if evidence.has_node {
        milestones.reach(Milestone::Placed);
    }
}

/// What the main container wrote into its termination message: only the agent does, when it fails itself.
fn last_words(evidence: &Evidence) -> Option<String> {
    match &evidence.main.state {
        ContainerState::Terminated { message, .. } if !message.is_empty() => Some(message.clone()),
        _ => None,
    }
}

/// What a pod that does not run yet waits for, and how to say it.
fn awaited(evidence: &Evidence) -> Option<(&'static str, String)> {
    if let Some((_, message)) = &evidence.unschedulable {
        return Some(("node", format!("waiting for a node: {message}")));
    }
    // One container's image may be on the way though the other one began.
    let latest = [&evidence.preparing, &evidence.main].map(|container| {
        let events = evidence.events.values();
        let events = events.filter(|it| it.container == container.name);
        events
            .filter(|it| matches!(it.reason.as_str(), "Pulling" | "Pulled" | "Started"))
            .max_by_key(|it| it.last)
    });
    let mut latest = latest.into_iter().flatten();
    let pulling = latest.find(|it| it.reason == "Pulling")?;
    Some(("image", format!("waiting: {}", pulling.message)))
}
