//! Blocking work: how the adapter calls the drive, with a bound on the threads it may hold.

use larder_core::{Error, Result};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};

/// Runs calls of the drive on blocking threads, so many at a time.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new(jobs: usize) -> Self {
        Gate(Arc::new(Semaphore::new(jobs)))
    }

    /// Starts `job`; it runs to its end whether or not anybody waits for it.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> JoinHandle<Result<T>> {
        match self.0.clone().try_acquire_owned() {
            Ok(permit) => spawn_blocking(move || {
                let _permit = permit;
                job()
            }),
            Err(_) => {
                let gate = self.0.clone();
                tokio::spawn(async move {
                    let permit = gate.acquire_owned().await;
                    let job = move || {
                        let _permit = permit;
                        job()
                    };
                    spawn_blocking(job).await.unwrap_or_else(|panic| Err(broken(panic)))
                })
            }
        }
    }

    /// Runs `job` and returns its answer.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the job.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        join(self.spawn(job)).await
    }
}

/// Waits for a job of a gate.
pub(crate) async fn join<T>(job: JoinHandle<Result<T>>) -> Result<T> {
    job.await.unwrap_or_else(|panic| Err(broken(panic)))
}

fn broken(panic: tokio::task::JoinError) -> Error {
    Error::corrupt("a request's own work failed").because(panic)
}
