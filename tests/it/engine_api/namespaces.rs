//! Tenants with namespaces of their own: each order goes where its tenant is, and trouble there is nobody else's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use peitho::names::{CompileKey, Digest, Tenant};
use peitho::runtime::{Error, Namespaces, Runtime};

use super::cluster::{Away, Cluster};

/// The general namespace, and one of org1.
fn namespaces() -> (Namespaces, [Arc<Cluster>; 2]) {
    let clusters = [(); 2].map(|()| Arc::new(Cluster::new().0));
    let [general, own] = [0, 1].map(|it| Arc::clone(&clusters[it]) as Arc<dyn Runtime>);
    let of_org1 = (own, vec![tenant("org1")]);
    (Namespaces::new(general, [of_org1]), clusters)
}

fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

fn key(text: &str) -> CompileKey {
    CompileKey::new(Digest::of(text.as_bytes()))
}

fn discarded(clusters: &[Arc<Cluster>; 2]) -> [Vec<CompileKey>; 2] {
    [0, 1].map(|it| clusters[it].discarded.borrow().clone())
}

#[tokio::test]
async fn a_compile_is_ended_where_its_tenant_is_though_another_namespace_is_away() {
    let (namespaces, clusters) = namespaces();
    clusters[0].away.send_replace(Away::Untold);
    let org1 = tenant("org1");
    namespaces
        .discard(Some(&org1), &key("of org1"))
        .await
        .unwrap();
    assert_eq!(discarded(&clusters), [vec![], vec![key("of org1")]]);
    let org2 = tenant("org2");
    let general = namespaces.discard(Some(&org2), &key("of org2")).await;
    assert!(matches!(general, Err(Error::Unavailable(_))), "{general:?}");
}

#[tokio::test]
async fn what_an_earlier_process_left_is_ended_where_it_was_found_and_nowhere_else() {
    let (namespaces, clusters) = namespaces();
    clusters[0].left.lock().unwrap().push(key("in both"));
    let of_org1 = [key("in both"), key("of org1")];
    clusters[1].left.lock().unwrap().extend(of_org1);
    let left: BTreeSet<_> = namespaces
        .unheld(Duration::ZERO)
        .await
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(left, BTreeSet::from(of_org1));
    // Whatever else has that key.
    namespaces.discard(None, &key("of org1")).await.unwrap();
    assert_eq!(discarded(&clusters), [vec![], vec![key("of org1")]]);
    // A tenant that got another namespace meanwhile.
    namespaces.discard(None, &key("in both")).await.unwrap();
    assert_eq!(
        discarded(&clusters),
        [vec![key("in both")], vec![key("of org1"), key("in both")]]
    );
}

#[tokio::test]
async fn what_was_left_is_tried_again_until_it_is_gone() {
    let (namespaces, clusters) = namespaces();
    clusters[1].left.lock().unwrap().push(key("left"));
    namespaces.unheld(Duration::ZERO).await.unwrap();
    clusters[1].away.send_replace(Away::Untold);
    let ended = namespaces.discard(None, &key("left")).await;
    assert!(matches!(ended, Err(Error::Unavailable(_))), "{ended:?}");
    clusters[1].away.send_replace(Away::No);
    namespaces.discard(None, &key("left")).await.unwrap();
    assert_eq!(discarded(&clusters), [vec![], vec![key("left")]]);
}
