//! What all requests work on.

use crate::aside::Aside;
use crate::helped::StandIn;
use crate::orphans::Orphans;
use crate::outside::Outside;
use crate::places::Folders;
use crate::programs::Programs;
use crate::stat::stat_of;
use fuser::FileAttr;
use larder_core::Node;
use larder_drive::{Drive, Mount};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The live view of a drive with what the kernel must be told besides.
pub(crate) struct View {
    pub(crate) drive: Arc<Drive>,
    pub(crate) mount: Mount,
    pub(crate) folders: Folders,
    pub(crate) orphans: Orphans,
    pub(crate) outside: Arc<Outside>,
    /// Answer what may wait for a server, names and bytes; `None` where nothing does.
    pub(crate) aside: Option<(Arc<Aside>, Arc<Aside>)>,
    pub(crate) programs: Programs,
    /// Answers while this process is stopped; where the program was built for it.
    pub(crate) stand_in: OnceLock<StandIn>,
    /// A file with set-id bits was seen; until then writes need not look for them.
    privileges: AtomicBool,
}

impl View {
    pub(crate) fn new(drive: Arc<Drive>) -> Self {
        let mount = drive.mount();
        let (folders, orphans, outside) = (Folders::default(), Orphans::default(), Arc::default());
        let programs = Programs::default();
        let aside = drive.fetches().then(Default::default);
        Self {
            drive,
            mount,
            folders,
            orphans,
            outside,
            aside,
            programs,
            stand_in: OnceLock::new(),
            privileges: AtomicBool::new(false),
        }
    }

    /// What stat(2) says of `node`, which goes to the kernel.
    pub(crate) fn seen(&self, node: &Node) -> FileAttr {
        if node.mode & 0o6000 != 0 && !self.privileges.load(Ordering::Relaxed) {
            self.privileges.store(true, Ordering::Relaxed);
        }
        stat_of(node)
    }

    pub(crate) fn may_have_privileges(&self) -> bool {
        self.privileges.load(Ordering::Relaxed)
    }
}
