//! Blocking work: how the adapter calls the drive, with a bound on the threads it may hold.

use larder_core::Error;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

/// Runs calls of the drive on blocking threads, so many at a time.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new(jobs: usize) -> Self {
        Gate(Arc::new(Semaphore::new(jobs)))
    }

    /// Starts `job`; it runs to its end whether or not anybody waits for it.
    pub(crate) fn spawn<T, E>(
        &self,
        job: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> JoinHandle<Result<T, E>>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let turn = self.0.clone().acquire_owned();
        tokio::spawn(async move {
            let permit = turn.await;
            let job = move || {
                let _permit = permit;
                job()
            };
            spawn_blocking(job).await.unwrap_or_else(|panic| Err(broken(panic).into()))
        })
    }

    /// Runs `job` and returns its answer.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the job.
    pub(crate) async fn call<T, E>(&self, job: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        join(self.spawn(job)).await
    }
}

/// Waits for a job of a gate.
pub(crate) async fn join<T, E: From<Error>>(job: JoinHandle<Result<T, E>>) -> Result<T, E> {
    job.await.unwrap_or_else(|panic| Err(broken(panic).into()))
}

fn broken(panic: JoinError) -> Error {
    Error::corrupt("a request's own work failed").because(panic)
}
