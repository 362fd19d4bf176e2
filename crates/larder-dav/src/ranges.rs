//! The Range header: which bytes of a file are asked for. Source: RFC 9110 § 14.

use std::ops::Range;

/// What to answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The whole file: no range, or one that is to be ignored.
    Whole,
    /// These parts, in the order asked for; at least one, none empty.
    Parts(Vec<Range<u64>>),
    /// 416: nothing of it is in the file, or there are too many ranges.
    Unsatisfiable,
}

/// Reads `header` for a file of `size` bytes; more than `limit` ranges are unsatisfiable.
///
/// Units other than bytes and ranges that break the grammar count as absent. Ranges that overlap so that more bytes
/// than the file has would go out are answered with the whole file. Source: RFC 9110 § 14.2, § 17.15.
pub(crate) fn parse(header: &str, size: u64, limit: usize) -> Asked {
    let Some((unit, set)) = header.split_once('=') else { return Asked::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    // Counted before anything is made of them.
    if set.bytes().filter(|byte| *byte == b',').count() >= limit {
        return Asked::Unsatisfiable;
    }
    let mut parts = Vec::new();
    let mut any = false;
    for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        any = true;
        match one(spec, size) {
            Some(range) if range.is_empty() => {}
            Some(range) => parts.push(range),
            None => return Asked::Whole,
        }
    }
    if !any {
        return Asked::Whole;
    }
    if parts.is_empty() {
        return Asked::Unsatisfiable;
    }
    if parts
        .iter()
        .map(|part| part.end - part.start)
        .try_fold(0u64, u64::checked_add)
        .is_none_or(|sum| sum > size)
    {
        return Asked::Whole;
    }
    Asked::Parts(parts)
}

/// One range, empty where it is outside of the file; `None` where it breaks the grammar.
fn one(spec: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(size - suffix.min(size)..size);
    }
    let start = number(first)?;
    let end = if last.is_empty() {
        size
    } else {
        let last = number(last)?;
        if last < start {
            return None;
        }
        last.saturating_add(1).min(size)
    };
    Some(start.min(end)..end)
}

/// Digits only; what does not fit is larger than any file.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ranges_are_those_of_the_rfc() {
        let cases = [
            ("bytes=0-499", Some(0..500)),
            ("bytes=500-", Some(500..1000)),
            ("bytes=-100", Some(900..1000)),
            ("bytes=-5000", Some(0..1000)),
            ("bytes=999-2000", Some(999..1000)),
            ("Bytes = 0-0", Some(0..1)),
            ("bytes=0-99999999999999999999999", Some(0..1000)),
            ("bytes=1000-", None),
            ("bytes=-0", None),
        ];
        for (header, want) in cases {
            let want = want.map_or(Asked::Unsatisfiable, |range| Asked::Parts(vec![range]));
            assert_eq!(parse(header, 1000, 8), want, "{header}");
        }
    }

    #[test]
    fn what_is_no_range_counts_as_absent() {
        for header in
            ["bytes=", "bytes=a-b", "bytes=5-1", "bytes=1", "items=0-1", "bytes", "bytes=0-1,x", "bytes=+1-2"]
        {
            assert_eq!(parse(header, 1000, 8), Asked::Whole, "{header}");
        }
    }

    #[test]
    fn many_and_overlapping_ranges_cost_nothing() {
        let many = format!("bytes={}", "0-0,".repeat(10_000));
        assert_eq!(parse(&many, 1000, 64), Asked::Unsatisfiable);
        assert_eq!(parse("bytes=0-,0-,0-", 1000, 64), Asked::Whole);
        assert_eq!(parse("bytes=0-0,-1,2000-", 1000, 64), Asked::Parts(vec![0..1, 999..1000]));
    }

    #[test]
    fn nothing_of_an_empty_file_is_satisfiable() {
        assert_eq!(parse("bytes=0-", 0, 8), Asked::Unsatisfiable);
        assert_eq!(parse("bytes=-5", 0, 8), Asked::Unsatisfiable);
    }
}
