//! Asking for a password, which the terminal does not show.

use crate::users::PASSWORD_MAX_BYTES;
use larder_core::{Error, Result};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Read};
use std::os::fd::{AsFd, BorrowedFd};

/// What Ctrl-C sends.
const CTRL_C: u8 = 3;
/// The longest line that a terminal hands over. Source: termios(3), canonical mode.
const LINE_MAX_BYTES: usize = 4096;

/// The password: from standard input, or asked for on the terminal, where it is not shown.
///
/// # Errors
/// `Invalid` where standard input cannot be read, or is no text.
pub fn password(from_stdin: bool) -> Result<String> {
    let stdin = std::io::stdin();
    let failed = |e| Error::invalid("password from standard input").because(e);
    let mut text = String::new();
    if from_stdin || !stdin.is_terminal() {
        stdin.take(PASSWORD_MAX_BYTES as u64 + 2).read_to_string(&mut text).map_err(failed)?;
    } else {
        eprint!("Password: ");
        let line = hidden_line(stdin.as_fd());
        eprintln!();
        let Some(line) = line.map_err(failed)? else { return Err(interrupted()) };
        text = String::from_utf8(line).map_err(|e| failed(std::io::Error::other(e)))?;
    }
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Ends this process as Ctrl-C would have.
fn interrupted() -> Error {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT);
    Error::invalid("interrupted")
}

/// A line that is typed and not shown; `None` for Ctrl-C.
fn hidden_line(terminal: BorrowedFd<'_>) -> std::io::Result<Option<Vec<u8>>> {
    let _hidden = Hidden::start(terminal);
    let mut line = vec![0; LINE_MAX_BYTES];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(terminal, &mut line[..]))?;
    line.truncate(length);
    Ok(if line.last() == Some(&CTRL_C) { None } else { Some(line) })
}

/// A terminal that does not show what is typed; dropping it shows it again. Source: termios(3), ECHO.
struct Hidden<'a>(Option<(BorrowedFd<'a>, Termios)>);

impl<'a> Hidden<'a> {
    fn start(terminal: BorrowedFd<'a>) -> Self {
        let Ok(before) = tcgetattr(terminal) else { return Hidden(None) };
        let mut quiet = before.clone();
        // Ctrl-C ends the line instead of the process, which would leave the terminal as it is now.
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
        let _ = tcsetattr(terminal, OptionalActions::Now, &quiet);
        Hidden(Some((terminal, before)))
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        if let Some((terminal, before)) = &self.0 {
            let _ = tcsetattr(terminal, OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::time::{Duration, Instant};

    /// What comes of typing `keys` once the terminal is quiet; it must show again afterwards.
    fn typed(keys: &[u8]) -> Option<Vec<u8>> {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&keyboard).and_then(|()| unlockpt(&keyboard)).expect("usable");
        let name = ptsname(&keyboard, Vec::new()).expect("a name").into_string().expect("a path");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let terminal = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).expect("the terminal");
        let modes = || tcgetattr(&terminal).expect("a terminal").local_modes;
        let (before, late) = (modes(), Instant::now() + Duration::from_secs(30));
        assert!(before.contains(LocalModes::ECHO | LocalModes::ISIG));
        let line = std::thread::scope(|scope| {
            let asked = scope.spawn(|| hidden_line(terminal.as_fd()).expect("a line"));
            while modes().contains(LocalModes::ECHO) {
                assert!(Instant::now() < late, "the terminal shows what is typed");
                std::thread::yield_now();
            }
            rustix::io::write(&keyboard, keys).expect("typed");
            asked.join().expect("no panic")
        });
        assert_eq!(modes(), before);
        line
    }

    #[test]
    fn a_terminal_shows_again_after_a_password() {
        assert_eq!(typed(b"secret\n").as_deref(), Some(&b"secret\n"[..]));
        assert_eq!(typed(b"sec\x03"), None);
        assert_eq!(typed(b"\x03"), None);
    }
}
