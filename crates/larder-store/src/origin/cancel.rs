//! What is said of one call from another thread: that it ends, and that somebody waits for it.

use tokio::sync::watch;

/// Ends the calls that were given it, and those that will be.
#[derive(Clone, Debug)]
pub struct Cancel {
    is_cancelled: watch::Sender<bool>,
    is_urgent: watch::Sender<bool>,
}

impl Cancel {
    /// One that was not used yet.
    pub fn new() -> Self {
        Self { is_cancelled: watch::Sender::new(false), is_urgent: watch::Sender::new(false) }
    }

    /// Ends them.
    pub fn cancel(&self) {
        self.is_cancelled.send_replace(true);
    }

    /// An application waits for what they bring: their bytes go before others.
    pub fn hurry(&self) {
        self.is_urgent.send_replace(true);
    }

    pub(super) fn is_urgent(&self) -> bool {
        *self.is_urgent.borrow()
    }

    /// Returns once it is.
    pub(super) async fn hurried(&self) {
        // As below.
        let _ = self.is_urgent.subscribe().wait_for(|is_urgent| *is_urgent).await;
    }

    /// Returns once somebody has.
    pub(super) async fn cancelled(&self) {
        // An error would say that nobody is left who could, but this is one who could.
        let _ = self.is_cancelled.subscribe().wait_for(|is_cancelled| *is_cancelled).await;
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}
