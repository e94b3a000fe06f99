//! Owns doing the same to several things at once, as several peers of one server do. Cases and the bench call it.

use std::panic::resume_unwind;
use std::thread;

/// Does `work` for all of `items` at once; what each gave, in their order. A panic of one goes on here when all have ended.
pub fn at_once<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let working: Vec<_> = (items.iter())
            .map(|item| scope.spawn(move || work(item)))
            .collect();
        working
            .into_iter()
            .map(|it| it.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}
