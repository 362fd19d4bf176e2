//! What a process that stays says once it is ready: to people, to programs, and to systemd, which must not be told
//! the password: `systemctl status` shows what it was told to everybody.

use crate::{daemon, notify, show, users};
use larder_core::Result;
use serde_json::json;
use std::path::PathBuf;

/// What there is.
#[derive(Debug, Default)]
pub struct Ready {
    /// The password that was made for the first user.
    pub password: Option<String>,
    /// Where files are served.
    pub url: Option<String>,
    /// Where they are mounted.
    pub mount: Option<PathBuf>,
    /// Nothing can be written there.
    pub is_read_only: bool,
    /// Why they are not.
    pub no_mount: Option<String>,
    /// The data directory.
    pub data: PathBuf,
    /// How commands on this drive begin.
    pub command: String,
}

impl Ready {
    /// Says it, and lets the parent of a process in the background go.
    ///
    /// # Errors
    /// Those of opening the log of a process in the background.
    pub fn say(&self, as_json: bool) -> Result<()> {
        let lines = match as_json {
            true => vec![self.json().to_string()],
            false => [self.facts(), self.next(), vec!["Ready. Ctrl-C ends it.".into()]].concat(),
        };
        // Whoever reads may have enough, as `head` has; the process stays all the same.
        lines.iter().for_each(|line| show::print(&format!("{line}\n")));
        notify::ready(&self.status());
        if daemon::is_child() { daemon::let_go(&self.data.join("larder.log")) } else { Ok(()) }
    }

    fn facts(&self) -> Vec<String> {
        let user = |password| format!("User     {}, password {password} (shown only now)", users::ADMIN);
        [
            self.password.as_ref().map(user),
            self.url.as_ref().map(|url| format!("WebDAV   {url}")),
            self.mount.as_ref().map(|dir| format!("Mounted  {}", dir.display())),
            self.no_mount
                .as_ref()
                .map(|why| format!("No mount: {why}. Files are served over WebDAV all the same.")),
            Some(format!("Data     {}", self.data.display())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What to do with it.
    fn next(&self) -> Vec<String> {
        let verb = if self.is_read_only { "read files in" } else { "copy files to" };
        let copy = self.mount.as_ref().map(|dir| format!("{verb} {}", dir.display()));
        let open = self.url.as_ref().map(|_| "open the WebDAV address in a file manager".to_string());
        let uses: Vec<String> = [copy, open].into_iter().flatten().collect();
        let mut lines = vec![format!("Next     {}", uses.join(", or "))];
        if self.url.is_some() {
            lines.push(format!("         `{} user add NAME` lets somebody else in", self.command));
        }
        lines
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "ready": true,
            "pid": std::process::id(),
            "user": self.password.as_ref().map(|_| users::ADMIN),
            "password": self.password,
            "url": self.url,
            "mount": self.mount,
            "no_mount": self.no_mount,
            "data": self.data,
        })
    }

    fn status(&self) -> String {
        let served = self.url.as_ref().map(|url| format!("WebDAV {url}"));
        let mounted = self.mount.as_ref().map(|dir| format!("mounted at {}", dir.display()));
        [served, mounted].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}
