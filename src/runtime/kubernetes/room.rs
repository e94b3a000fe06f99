//! Room for pods that somebody waits for: those that were made ahead of need make way, where a quota refuses one, or no node has what it requests.
//! `compile` and `chaincode` make their pods by it; it knows neither.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tokio::time::timeout;

use super::Kubernetes;
use super::evidence::Evidence;
use super::follow::Follow;
use super::request::Failure;
use super::verdict::Verdict;
use crate::runtime::spares::{Going, Short};

/// How long those that make way may take to be gone: one that hangs is ended by force after ten seconds, and given up after ten more.
const GOING: Duration = Duration::from_secs(20);

impl Kubernetes {
    /// Creates `pod`, which somebody waits for.
    pub(super) async fn create_needed(&self, pod: &Pod) -> Result<Pod, Failure> {
        let refused = match self.requests.create(&self.pods, pod).await {
            Err(failure) if failure.is_of_quota() => failure,
            made => return made,
        };
        let going = self.make_way();
        if going.is_empty() {
            return Err(refused);
        }
        tracing::info!(
            pod = pod.name_any(),
            count = going.len(),
            "the namespace's quota leaves no room: pods that were made ahead of need make way"
        );
        // Those that are still there then are refused by the quota itself.
        let _ = timeout(GOING, join_all(going.into_iter().map(Going::gone))).await;
        // Another may have come meanwhile.
        let may_again = || {
            self.make_way();
            true
        };
        let made = self.requests.create_as_counted(&self.pods, pod, may_again);
        made.await
    }

    /// Waits until the process of a pod that somebody waits for runs or is over.
    pub(super) async fn running(&self, follow: &mut Follow) -> Verdict {
        let mut short = None;
        loop {
            let verdict = follow.verdict();
            if !matches!(verdict, Verdict::Starting { .. }) {
                return verdict;
            }
            self.make_way_for(&follow.evidence(), &mut short);
            follow.news(&verdict, None).await;
        }
    }

    /// Those that wait go, and none comes, as long as the pod of `evidence` has no node for want of what they have: nodes are for all namespaces. The
    /// scheduler looks again when they are gone, but not at once, and a new one is looked at before.
    pub(super) fn make_way_for(&self, evidence: &Evidence, short: &mut Option<Short>) {
        match lacks_room(evidence) {
            true => {
                short.get_or_insert_with(|| self.settings.spares.short());
            }
            false => *short = None,
        }
    }

    fn make_way(&self) -> Vec<Going> {
        self.settings.spares.give_way(&self.settings.namespace)
    }
}

/// Whether what nodes lack is something that another pod has. The scheduler tells reasons by words alone:
/// k8s.io/kubernetes/pkg/scheduler/framework/plugins/noderesources/fit.go.
fn lacks_room(evidence: &Evidence) -> bool {
    let Some((_, message)) = &evidence.unschedulable else {
        return false;
    };
    ["Insufficient ", "Too many pods"]
        .iter()
        .any(|it| message.contains(it))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn only_want_of_what_others_have_has_them_make_way() {
        let lacks = |message: &str| {
            let pod = serde_json::json!({
                "metadata": {"name": "p", "uid": "u"},
                "status": {"phase": "Pending", "conditions": [{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                }]},
            });
            let pod: Pod = serde_json::from_value(pod).unwrap();
            lacks_room(&Evidence::of(&pod, None, Instant::now()))
        };
        assert!(lacks("0/1 nodes are available: 1 Insufficient memory."));
        assert!(lacks("0/2 nodes are available: 2 Too many pods."));
        assert!(!lacks(
            "0/1 nodes are available: 1 node(s) were unschedulable."
        ));
    }
}
