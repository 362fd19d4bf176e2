//! Who the process of a request is. Source: proc_pid_status(5), proc_pid_comm(5), proc_pid_exe(5).

use larder_drive::fetch::Program;
use std::path::PathBuf;

/// What /proc says of the process that thread `tid` belongs to; the kernel names the thread.
pub(crate) fn program(tid: u32) -> Option<Program> {
    let place = |id: u32| PathBuf::from(format!("/proc/{id}"));
    let status = std::fs::read_to_string(place(tid).join("status")).ok()?;
    let pid = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok()).unwrap_or(tid);
    let name = std::fs::read_to_string(place(pid).join("comm")).ok()?;
    // Of another user's process it cannot be read.
    let file = std::fs::read_link(place(pid).join("exe")).ok();
    let file = file.and_then(|file| Some(file.file_name()?.to_string_lossy().into_owned()));
    Some(Program { pid, name: name.trim_end_matches('\n').to_owned(), file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_told_as_their_process() {
        let told = std::thread::Builder::new().name("something else".into());
        let tid = || rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        let told = told.spawn(move || program(tid())).expect("a thread").join().expect("no panic");
        let told = told.expect("it lives");
        assert_eq!(told.pid, std::process::id());
        assert_ne!(told.name, "something else");
        assert!(program(u32::MAX).is_none());
    }
}
