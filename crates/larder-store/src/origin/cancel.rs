//! Ending one call from another thread.

use tokio::sync::watch;

/// Ends the calls that were given it, and those that will be.
#[derive(Clone, Debug)]
pub struct Cancel(watch::Sender<bool>);

impl Cancel {
    /// One that was not used yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Ends them.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Returns once somebody has.
    pub(super) async fn cancelled(&self) {
        // An error would say that nobody is left who could, but this is one who could.
        let _ = self.0.subscribe().wait_for(|is_cancelled| *is_cancelled).await;
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}
