//! Which part of a file a PUT with Content-Range, or a PATCH, replaces.
//!
//! Sources: RFC 9110 § 14.5; sabre/dav, "HTTP PATCH" (`application/x-sabredav-partialupdate`).

use crate::failure::Failure;
use http::StatusCode;
use http::header::{self, HeaderValue};

/// Where the bytes of a body go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// From here on; with the length that the body must have.
    From { start: u64, len: Option<u64> },
    /// The last so many bytes.
    Last(u64),
    /// Behind the end.
    Append,
}

impl Part {
    /// Reads `bytes 0-99/1000` of Content-Range.
    ///
    /// # Errors
    /// 400 where it is no such range.
    pub(crate) fn of_content_range(header: &str) -> Result<Self, Failure> {
        let bad = || Failure::bad_request("Content-Range is not `bytes FIRST-LAST/SIZE`");
        let (range, size) = header.strip_prefix("bytes ").and_then(|r| r.split_once('/')).ok_or_else(bad)?;
        let (first, last) = range.trim().split_once('-').ok_or_else(bad)?;
        let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
        let size = match size.trim() {
            "*" => None,
            size => Some(number(size).ok_or_else(bad)?),
        };
        if last < first || last == u64::MAX || size.is_some_and(|size| last >= size) {
            return Err(bad());
        }
        Ok(Part::From { start: first, len: Some(last - first + 1) })
    }

    /// Reads `append`, `bytes=4-7`, `bytes=4-` and `bytes=-4` of X-Update-Range.
    ///
    /// # Errors
    /// 400 where it is none of them.
    pub(crate) fn of_update_range(header: &str) -> Result<Self, Failure> {
        let bad = || Failure::bad_request("X-Update-Range is neither `append` nor `bytes=FIRST-LAST`");
        if header == "append" {
            return Ok(Part::Append);
        }
        let (first, last) = header.strip_prefix("bytes=").and_then(|r| r.split_once('-')).ok_or_else(bad)?;
        match (number(first), number(last)) {
            (Some(first), Some(last)) if last >= first && last < u64::MAX => {
                Ok(Part::From { start: first, len: Some(last - first + 1) })
            }
            (Some(start), None) if last.is_empty() => Ok(Part::From { start, len: None }),
            (None, Some(suffix)) if first.is_empty() => Ok(Part::Last(suffix)),
            _ => Err(bad()),
        }
    }

    /// Where the part begins in a file of `size` bytes.
    ///
    /// # Errors
    /// 416 where that would leave a gap.
    pub(crate) fn start(self, size: u64) -> Result<u64, Failure> {
        let start = match self {
            Part::Append => size,
            Part::From { start, .. } => start,
            Part::Last(suffix) => size.saturating_sub(suffix),
        };
        if start <= size {
            return Ok(start);
        }
        let failure = Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("the file has {size} bytes"));
        match HeaderValue::try_from(format!("bytes */{size}")) {
            Ok(value) => Err(failure.header(header::CONTENT_RANGE, value)),
            Err(_) => Err(failure),
        }
    }

    /// The length that the body must have, where the header says.
    pub(crate) fn len(self) -> Option<u64> {
        match self {
            Part::From { len, .. } => len,
            Part::Append | Part::Last(_) => None,
        }
    }
}

fn number(digits: &str) -> Option<u64> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_strictly() {
        assert_eq!(
            Part::of_content_range("bytes 0-99/1000").expect("a range"),
            Part::From { start: 0, len: Some(100) }
        );
        for bad in [
            "bytes */1000",
            "bytes 5-4/10",
            "bytes 0-9/5",
            "items 0-1/2",
            "bytes 0-x/*",
            "bytes 0-1",
            "bytes -1/2",
        ] {
            assert!(Part::of_content_range(bad).is_err(), "{bad}");
        }
        assert_eq!(Part::of_update_range("bytes=-4").expect("a range"), Part::Last(4));
        assert_eq!(Part::of_update_range("bytes=4-").expect("a range"), Part::From { start: 4, len: None });
        for bad in ["", "bytes=", "bytes=-", "bytes=7-4", "4-7", "bytes=+1-2"] {
            assert!(Part::of_update_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn gaps_are_refused() {
        assert_eq!(Part::Append.start(7).expect("the end"), 7);
        assert_eq!(Part::Last(10).start(7).expect("the start"), 0);
        assert_eq!(Part::From { start: 8, len: None }.start(7).expect_err("a gap").status(), 416);
    }
}
