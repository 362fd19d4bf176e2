//! The thread that cuts full blocks of streams, so that a writer only copies.

use super::file::WorkingFile;
use super::stream::Block;
use larder_store::Lease;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Blocks that wait at most; a writer that finds the queue full cuts its block itself.
const QUEUE_MAX: usize = 4;

/// A block to cut.
pub(super) struct Job {
    pub file: Arc<WorkingFile>,
    pub block: Arc<Block>,
    pub lease: Arc<Lease>,
}

enum Message {
    Cut(Job),
    Stop,
}

/// Where blocks are offered.
pub(super) struct Queue(SyncSender<Message>);

/// The thread; it ends when this is dropped.
pub(super) struct Worker {
    sender: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Queue {
    /// Hands a job over, or back where nobody is free.
    pub fn offer(&self, job: Job) -> Result<(), Job> {
        match self.0.try_send(Message::Cut(job)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(Message::Cut(job)) | TrySendError::Disconnected(Message::Cut(job))) => {
                Err(job)
            }
            Err(_) => unreachable!("what comes back is what was sent"),
        }
    }
}

impl Worker {
    /// Starts the thread. Without one, writers cut for themselves.
    pub fn start() -> (Worker, Queue) {
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("larder-cut".to_owned()).spawn(move || run(&receiver));
        if let Err(error) = &thread {
            tracing::warn!(%error, "no thread for cutting chunks: writes will be slower");
        }
        (Worker { sender: sender.clone(), thread: thread.ok() }, Queue(sender))
    }
}

fn run(receiver: &Receiver<Message>) {
    while let Ok(Message::Cut(job)) = receiver.recv() {
        job.file.cut_there(&job.lease, job.block);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.sender.send(Message::Stop);
            if thread.join().is_err() {
                tracing::error!("the thread that cuts chunks panicked");
            }
        }
    }
}
