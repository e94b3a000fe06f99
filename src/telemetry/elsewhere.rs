//! How much of a request's time others take: the API server, a Docker Engine. `engine_api` opens an account for each request,
//! the runtimes put the time of their own requests on it. Neither knows the other; work that a request leaves to another task is
//! not on its account.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    static ACCOUNT: Mutex<Account>;
}

#[derive(Debug, Default)]
struct Account {
    /// Requests that are under way.
    open: usize,
    /// Since when one is.
    since: Option<Instant>,
    total: Duration,
}

/// What `work` gives, and the time in which at least one [`elsewhere`] of it was under way.
pub async fn accounted<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let counted = async {
        let done = work.await;
        (done, ACCOUNT.with(|account| lock(account).total))
    };
    ACCOUNT.scope(Mutex::default(), counted).await
}

/// Waits for `work`, which others do, at the cost of the account that is open here, if one is.
pub async fn elsewhere<T>(work: impl Future<Output = T>) -> T {
    let _open = Open::begin();
    work.await
}

/// Also ends with a future that is dropped.
struct Open;

impl Open {
    fn begin() -> Self {
        let _ = ACCOUNT.try_with(|account| {
            let mut account = lock(account);
            account.open += 1;
            account.since.get_or_insert_with(Instant::now);
        });
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = ACCOUNT.try_with(|account| {
            let mut account = lock(account);
            account.open -= 1;
            if account.open == 0
                && let Some(since) = account.since.take()
            {
                account.total += since.elapsed();
            }
        });
    }
}

fn lock(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn time_counts_once_however_many_are_under_way() {
        let begun = Instant::now();
        let work = async {
            sleep(STEP).await;
            let short = elsewhere(sleep(STEP));
            let long = elsewhere(sleep(2 * STEP));
            tokio::join!(short, long);
            elsewhere(async { 42 }).await
        };
        let (done, time) = accounted(work).await;
        assert_eq!(done, 42);
        let rest = begun.elapsed() - STEP;
        assert!(2 * STEP <= time && time <= rest, "{time:?} of {rest:?}");
    }

    #[tokio::test]
    async fn what_is_given_up_counts_until_then_and_other_tasks_do_not() {
        let begun = Instant::now();
        let work = async {
            let given_up = tokio::time::timeout(STEP, elsewhere(sleep(Duration::MAX)));
            assert!(given_up.await.is_err());
            tokio::spawn(elsewhere(sleep(2 * STEP))).await.unwrap();
        };
        let ((), time) = accounted(work).await;
        let rest = begun.elapsed() - 2 * STEP;
        assert!(STEP <= time && time <= rest, "{time:?} of {rest:?}");
    }

    #[tokio::test]
    async fn without_an_account_nothing_is_counted() {
        assert_eq!(elsewhere(async { 42 }).await, 42);
    }
}
