//! Waiting for what nobody tells of, such as a file that goes or a record that another task writes: all suites whose world is in the test's
//! own process wait for it here, so that what does not come fails its test, and says what it was.

use std::time::Duration;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// What `look` finds, once it finds something; `what` names it where it never does.
pub(crate) async fn once<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(LONG, found).await;
    found.unwrap_or_else(|_| panic!("not within {LONG:?}: {what}"))
}
