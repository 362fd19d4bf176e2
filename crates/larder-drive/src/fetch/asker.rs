//! Which process asks for bytes: found out only where they have to be fetched, so that reading what is here costs nothing.
//!
//! A request of a mount is answered on one thread from its beginning to its end, and the process is that thread's matter while
//! it lasts: the layers between need not know.

use std::cell::Cell;
use std::sync::Arc;

/// Programs that sweep through trees, which need not have everything fetched: those that make lists of names, indexes for a
/// search on the desktop, and thumbnails.
pub const INDEXERS: [&str; 24] = [
    "updatedb",
    "updatedb.mlocate",
    "updatedb.plocate",
    "plocate",
    "tracker-miner-f",
    "tracker-miner-fs",
    "tracker-miner-fs-3",
    "tracker-extract",
    "tracker-extract-3",
    "localsearch",
    "localsearch-3",
    "localsearch-extractor-3",
    "baloo_file",
    "baloo_file_extractor",
    "recollindex",
    "gdk-pixbuf-thumbnailer",
    "totem-video-thumbnailer",
    "ffmpegthumbnailer",
    "evince-thumbnailer",
    "papers-thumbnailer",
    "glycin-thumbnailer",
    "gnome-thumbnail-font",
    "tumblerd",
    "thumbnail.so",
];
/// The kernel keeps so many bytes of a process's name. Source: TASK_COMM_LEN of proc_pid_comm(5), without its NUL.
const NAME_BYTES: usize = 15;

/// A process that asked for bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The process.
    pub pid: u32,
    /// What it calls itself.
    pub name: String,
    /// The name of the file that it runs, where that can be known.
    pub file: Option<String>,
}

impl Program {
    /// Says whether it is one of `names`, by either of its own.
    pub(super) fn is_one_of(&self, names: &[String]) -> bool {
        let cut = |name: &str| name.as_bytes().get(..NAME_BYTES) == Some(self.name.as_bytes());
        names.iter().any(|name| *name == self.name || cut(name) || self.file.as_ref() == Some(name))
    }
}

/// Finds out what process `0` is.
pub type Find = fn(u32) -> Option<Program>;

thread_local! {
    static ASKING: Cell<Option<(u32, Find)>> = const { Cell::new(None) };
}

/// Does `work` in the name of process `pid`; `find` says who that is, where it matters.
pub fn asking<R>(pid: u32, find: Find, work: impl FnOnce() -> R) -> R {
    struct Over;
    impl Drop for Over {
        fn drop(&mut self) {
            ASKING.set(None);
        }
    }
    ASKING.set(Some((pid, find)));
    let _over = Over;
    work()
}

/// Who asks on this thread, where that is known.
pub(super) fn who() -> Option<Arc<Program>> {
    let (pid, find) = ASKING.get()?;
    find(pid).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_known_by_its_name_cut_or_whole_and_by_its_file() {
        let names = ["updatedb", "tracker-miner-fs-3"].map(str::to_owned);
        let program = |name: &str, file: Option<&str>| Program {
            pid: 1,
            name: name.to_owned(),
            file: file.map(str::to_owned),
        };
        for known in [
            program("updatedb", None),
            program("tracker-miner-f", None),
            program("main", Some("tracker-miner-fs-3")),
        ] {
            assert!(known.is_one_of(&names), "{known:?}");
        }
        for other in [program("update", None), program("tracker-miner", Some("cat")), program("", None)] {
            assert!(!other.is_one_of(&names), "{other:?}");
        }
    }

    #[test]
    fn asker_is_known_while_it_asks_and_not_after_a_panic() {
        let find: Find = |pid| Some(Program { pid, name: "cat".into(), file: None });
        assert_eq!(asking(7, find, who).expect("known").pid, 7);
        let panicked = std::panic::catch_unwind(|| asking(8, find, || panic!("on purpose")));
        assert!(panicked.is_err() && who().is_none());
    }
}
