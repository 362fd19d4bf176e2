//! Errors of the drive as the kernel wants them.
//!
//! ENOSYS never leaves this crate for an operation that works on another file: the kernel remembers it for the
//! whole connection.

use fuser::Errno;
use larder_core::{Error, Kind};

/// The outcome of one request.
pub(crate) type Answer<T> = Result<T, Errno>;

/// Translates `error`; what only an operator can mend is logged here, because it ends here.
pub(crate) fn of(error: &Error) -> Errno {
    match error.kind() {
        Kind::NotFound => Errno::ENOENT,
        Kind::Exists => Errno::EEXIST,
        Kind::NotADirectory => Errno::ENOTDIR,
        Kind::IsADirectory => Errno::EISDIR,
        Kind::NotEmpty => Errno::ENOTEMPTY,
        Kind::Invalid if error.what() == larder_core::name::TOO_LONG => Errno::ENAMETOOLONG,
        Kind::Invalid => system(error, &[libc::EFBIG, libc::ENXIO, libc::EBADF]).unwrap_or(Errno::EINVAL),
        Kind::Denied => system(error, &[libc::EPERM, libc::EROFS]).unwrap_or(Errno::EACCES),
        Kind::Conflict if larder_drive::is_locked(error) => Errno::EBUSY,
        Kind::Conflict => Errno::ESTALE,
        Kind::NoSpace => system(error, &[libc::EDQUOT, libc::EFBIG, libc::EMLINK]).unwrap_or(Errno::ENOSPC),
        Kind::Unavailable => logged(error, Errno::ETIMEDOUT),
        Kind::Corrupt => logged(error, Errno::EIO),
        Kind::Unsupported => Errno::EOPNOTSUPP,
    }
}

/// As [`of`], for extended attributes: a missing one is ENODATA.
pub(crate) fn of_xattr(error: &Error) -> Errno {
    match error.kind() {
        Kind::NotFound => Errno::ENODATA,
        _ => of(error),
    }
}

/// The operating system's own number behind the error, where it is one of `known`.
fn system(error: &Error, known: &[i32]) -> Option<Errno> {
    let source = std::error::Error::source(error)?.downcast_ref::<std::io::Error>()?;
    source.raw_os_error().filter(|number| known.contains(number)).map(Errno::from_i32)
}

fn logged(error: &Error, errno: Errno) -> Errno {
    tracing::error!(%error, "a request of the mount failed");
    errno
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_map_to_the_numbers_that_programs_expect() {
        let of_kind = |kind| i32::from(of(&Error::new(kind, "x")));
        let expected = [
            (Kind::NotFound, libc::ENOENT),
            (Kind::Exists, libc::EEXIST),
            (Kind::NotADirectory, libc::ENOTDIR),
            (Kind::IsADirectory, libc::EISDIR),
            (Kind::NotEmpty, libc::ENOTEMPTY),
            (Kind::Invalid, libc::EINVAL),
            (Kind::Denied, libc::EACCES),
            (Kind::Conflict, libc::ESTALE),
            (Kind::NoSpace, libc::ENOSPC),
            (Kind::Unavailable, libc::ETIMEDOUT),
            (Kind::Corrupt, libc::EIO),
            (Kind::Unsupported, libc::EOPNOTSUPP),
        ];
        expected.iter().for_each(|(kind, errno)| assert_eq!(of_kind(*kind), *errno, "{kind:?}"));
    }

    #[test]
    fn a_long_name_is_told_from_a_wrong_one() {
        let long = larder_core::Name::new([b'x'; 256]).expect_err("256 bytes");
        assert_eq!(i32::from(of(&long)), libc::ENAMETOOLONG);
    }

    #[test]
    fn a_missing_attribute_is_no_data() {
        assert_eq!(i32::from(of_xattr(&Error::not_found("user.x"))), libc::ENODATA);
    }
}
