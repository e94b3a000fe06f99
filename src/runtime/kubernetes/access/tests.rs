use super::*;
use crate::config;
use crate::runtime::kubernetes::connect;

fn right(resource: &str) -> Right {
    let found = RIGHTS.into_iter().find(|right| right.resource == resource);
    found.unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn what_nothing_works_without_is_named_with_its_verbs() {
    let denied = [
        ("chaincode", right("pods"), "create"),
        ("chaincode", right("pods"), "delete"),
        ("chaincode", right("secrets"), "patch"),
        ("chaincode", right("events"), "list"),
    ];
    let error = judge(&names(&["chaincode"]), &denied).unwrap_err();
    assert_eq!(
        error.to_string(),
        "missing rights in namespace chaincode: create, delete pods; patch secrets; bind the Role of the deployment \
         (deploy/role.yaml) to Peitho's account there"
    );
}

#[test]
fn the_server_starts_without_what_little_depends_on() {
    let useful = RIGHTS.iter().filter(|right| right.need != Need::Vital);
    let useful: Vec<&str> = useful.map(|right| right.resource).collect();
    assert_eq!(useful, ["pods/log", "events"]);
    let denied = [
        ("chaincode", right("pods/log"), "get"),
        ("of-org1", right("events"), "watch"),
    ];
    judge(&names(&["chaincode", "of-org1"]), &denied).unwrap();
}

#[test]
fn each_namespace_without_rights_is_named() {
    let denied = [
        ("of-org1", right("pods"), "create"),
        ("of-org1", right("pods/log"), "get"),
        ("of-org2", right("secrets"), "list"),
    ];
    let error = judge(&names(&["chaincode", "of-org1", "of-org2"]), &denied).unwrap_err();
    assert_eq!(
        error.to_string(),
        "missing rights in namespace of-org1: create pods; and in namespace of-org2: list secrets; bind the Role of the \
         deployment (deploy/role.yaml) to Peitho's account there"
    );
}

#[tokio::test]
async fn an_api_server_that_stays_away_is_named_with_the_cause_and_the_time() {
    // Bound and closed again: nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let kubeconfig = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "clusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c}}}}]\ncurrent-context: c\n"
    );
    std::fs::write(kubeconfig.path(), text).unwrap();
    let section = config::Kubernetes {
        kubeconfig: Some(kubeconfig.path().to_owned()),
        ..config::Kubernetes::default()
    };
    let connection = connect(&section).await.unwrap();
    let requests = Requests::with_patience(Duration::from_millis(1500));
    let error = check(&connection, &names(&["chaincode"]), &requests)
        .await
        .unwrap_err();
    let text = error.to_string();
    let begin = format!("the Kubernetes API server does not answer: asking {server}: ");
    assert!(text.starts_with(&begin), "{text}");
    assert!(
        text.contains("refused") && text.contains(" s; see whether it runs"),
        "{text}"
    );
}
