//! What may be in a worker's folder.

use crate::support::server::{Place, Server};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Names and contents of a folder.
pub type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// Somebody who changes a folder and knows what must be in it.
pub trait Worker: Send {
    /// Changes the folder until the server is gone; returns how many operations were acknowledged.
    fn work(&mut self, address: SocketAddr) -> usize;

    /// Compares the folder with what it must be.
    ///
    /// # Errors
    /// What is wrong.
    fn verify(&mut self, server: &Server, place: &Place, round: u64) -> Result<(), String>;
}

/// The states that a folder may be in: exactly one while nothing is under way.
pub struct Folder {
    /// Its name.
    pub name: String,
    states: Vec<Files>,
}

impl Folder {
    /// An empty folder.
    pub fn new(name: &str) -> Folder {
        Folder { name: name.to_string(), states: vec![Files::new()] }
    }

    /// The one state, while nothing is under way.
    pub fn files(&self) -> &Files {
        &self.states[0]
    }

    /// Says that `change` is under way: the folder may be as before or as `change` makes it.
    pub fn may(&mut self, change: impl FnOnce(&mut Files)) {
        let mut next = self.states.last().expect("at least one").clone();
        change(&mut next);
        self.states.push(next);
    }

    /// Says that the operation up to the `skipped`-th change was acknowledged.
    pub fn acknowledged(&mut self, changes: usize) {
        self.states.drain(..changes);
    }

    /// Says that everything was acknowledged.
    pub fn settled(&mut self) {
        self.acknowledged(self.states.len() - 1);
    }

    /// Takes what was found as the state, if it may be.
    ///
    /// # Errors
    /// How it differs from each state that it may be in.
    pub fn accept(&mut self, found: Files) -> Result<(), String> {
        if self.states.contains(&found) {
            self.states = vec![found];
            return Ok(());
        }
        let differs: Vec<String> = self.states.iter().map(|state| difference(state, &found)).collect();
        Err(format!("{} is in none of the states it may be in:\n{}", self.name, differs.join("\nor\n")))
    }
}

fn difference(wanted: &Files, found: &Files) -> String {
    let mut lines = Vec::new();
    for (name, content) in wanted {
        match found.get(name) {
            None => lines.push(format!("{name} is missing ({} bytes)", content.len())),
            Some(other) if other != content => {
                let same = content.iter().zip(other.iter()).take_while(|(a, b)| a == b).count();
                let (wanted, found) = (content.len(), other.len());
                lines.push(format!("{name}: {found} bytes instead of {wanted}, the first {same} as wanted"));
            }
            Some(_) => {}
        }
    }
    for (name, content) in found.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
        lines.push(format!("{name} is there ({} bytes)", content.len()));
    }
    lines.join("\n")
}
