//! How many attempts run at once: a few that are quick, and apart from them those that take long, so that orders that
//! hang hold up no others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Attempts at once.
pub(super) const QUICK_MAX: usize = 64;
/// Attempts at once that have taken longer than [`SLOW_AFTER`].
pub(super) const SLOW_MAX: usize = 192;
/// An attempt that takes longer no longer counts among the quick ones, as long as there is room for slow ones.
const SLOW_AFTER: Duration = Duration::from_millis(250);

/// The places for attempts.
#[derive(Debug, Clone)]
pub(super) struct Places {
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    /// Told when a place for a quick attempt becomes free early.
    freed: Arc<Notify>,
}

impl Places {
    pub(super) fn new(freed: Arc<Notify>) -> Self {
        Self { quick: Arc::new(Semaphore::new(QUICK_MAX)), slow: Arc::new(Semaphore::new(SLOW_MAX)), freed }
    }

    /// Attempts that may begin now.
    pub(super) fn free(&self) -> usize {
        self.quick.available_permits()
    }

    /// Attempts under way.
    pub(super) fn taken(&self) -> usize {
        QUICK_MAX - self.quick.available_permits() + SLOW_MAX - self.slow.available_permits()
    }

    /// Takes a place for an attempt that is about to begin.
    pub(super) async fn take(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.quick).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Runs an attempt in the place that was taken for it.
    pub(super) async fn run<T>(&self, place: OwnedSemaphorePermit, attempt: impl Future<Output = T>) -> T {
        tokio::pin!(attempt);
        tokio::select! {
            result = &mut attempt => return result,
            () = tokio::time::sleep(SLOW_AFTER) => {}
        }
        let _place = match Arc::clone(&self.slow).try_acquire_owned() {
            Ok(slow) => {
                drop(place);
                self.freed.notify_one();
                slow
            }
            Err(_) => place,
        };
        attempt.await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::{join_all, pending};

    use super::*;

    #[tokio::test]
    async fn attempts_that_hang_leave_their_places_to_others() {
        let places = Places::new(Arc::default());
        let mut hanging = tokio::task::JoinSet::new();
        for _ in 0..QUICK_MAX {
            let (places, place) = (places.clone(), places.take().await);
            hanging.spawn(async move { places.run(place, pending::<()>()).await });
        }
        assert_eq!(places.free(), 0);
        let quick = join_all((0..200).map(|_| async {
            let place = places.take().await;
            places.run(place, tokio::task::yield_now()).await;
        }));
        tokio::time::timeout(Duration::from_secs(20), quick).await.expect("they are not held up");
        assert_eq!(places.taken(), QUICK_MAX, "those that hang are still under way");
        hanging.abort_all();
        while hanging.join_next().await.is_some() {}
        assert_eq!((places.taken(), places.free()), (0, QUICK_MAX));
    }

    #[tokio::test]
    async fn at_most_so_many_run_at_once_however_long_they_take() {
        let places = Places::new(Arc::default());
        let mut hanging = tokio::task::JoinSet::new();
        for _ in 0..QUICK_MAX + SLOW_MAX {
            let (places, place) = (places.clone(), places.take().await);
            hanging.spawn(async move { places.run(place, pending::<()>()).await });
        }
        assert_eq!(places.free(), 0);
        let one_more = tokio::time::timeout(SLOW_AFTER * 2, places.take()).await;
        assert!(one_more.is_err(), "all places are taken");
    }
}
