//! The If header of RFC 4918 § 10.4: parsed by us before anything else sees it.

use crate::failure::Failure;

/// The most conditions of one header.
const CONDITIONS_MAX: usize = 1000;

/// One list: all of its conditions must hold for the resource it is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct List {
    /// The resource; `None` for that of the request.
    pub tag: Option<String>,
    pub conditions: Vec<Condition>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub not: bool,
    pub test: Test,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// A state token, a lock's as a rule.
    Token(String),
    /// An entity tag with its quotes.
    Tag(String),
}

/// Reads the header's value.
///
/// # Errors
/// 400 where the grammar does not hold.
pub(crate) fn parse(value: &[u8]) -> Result<Vec<List>, Failure> {
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let mut rest = text.trim();
    let mut lists = Vec::new();
    let mut tag: Option<String> = None;
    // A tag without a list is none.
    let mut bare = true;
    let mut conditions = 0;
    while !rest.is_empty() {
        if rest.starts_with('<') {
            // Tagged and untagged lists do not mix.
            let untagged = tag.is_none() && !lists.is_empty();
            if untagged || (bare && tag.is_some()) {
                return Err(bad());
            }
            tag = Some(between(&mut rest, '<', '>')?);
            bare = true;
        } else {
            let list = parse_list(&mut rest, tag.clone())?;
            conditions += list.conditions.len();
            if conditions > CONDITIONS_MAX {
                return Err(bad());
            }
            lists.push(list);
            bare = false;
        }
        rest = rest.trim_start();
    }
    if bare { Err(bad()) } else { Ok(lists) }
}

fn parse_list(rest: &mut &str, tag: Option<String>) -> Result<List, Failure> {
    *rest = rest.strip_prefix('(').ok_or_else(bad)?;
    let mut conditions = Vec::new();
    loop {
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(')') {
            *rest = after;
            break;
        }
        let not = rest.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("not"));
        if not {
            *rest = rest[3..].trim_start();
        }
        let test = match rest.chars().next() {
            Some('<') => Test::Token(between(rest, '<', '>')?),
            Some('[') => Test::Tag(entity_tag(rest)?),
            _ => return Err(bad()),
        };
        if conditions.len() >= CONDITIONS_MAX {
            return Err(bad());
        }
        conditions.push(Condition { not, test });
    }
    if conditions.is_empty() { Err(bad()) } else { Ok(List { tag, conditions }) }
}

fn between(rest: &mut &str, open: char, close: char) -> Result<String, Failure> {
    let inner = rest.strip_prefix(open).ok_or_else(bad)?;
    let (inside, after) = inner.split_once(close).ok_or_else(bad)?;
    if inside.is_empty() || inside.contains(['<', '(', ')', ' ']) {
        return Err(bad());
    }
    *rest = after;
    Ok(inside.to_owned())
}

/// Takes `["x"]` or `[W/"x"]`; blanks inside of the quotes are allowed, as the examples of the RFC have them.
fn entity_tag(rest: &mut &str) -> Result<String, Failure> {
    let inner = rest.strip_prefix('[').ok_or_else(bad)?.trim_start();
    let (weak, quoted) = match inner.strip_prefix("W/") {
        Some(quoted) => ("W/", quoted),
        None => ("", inner),
    };
    let (opaque, after) = quoted.strip_prefix('"').and_then(|tag| tag.split_once('"')).ok_or_else(bad)?;
    *rest = after.trim_start().strip_prefix(']').ok_or_else(bad)?;
    Ok(format!("{weak}\"{opaque}\""))
}

fn bad() -> Failure {
    Failure::bad_request("the If header does not follow RFC 4918 § 10.4")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_refused() {
        for bad in [
            "(<<[",
            "(",
            ")",
            "()",
            "<x>",
            "<x> <y> (<t>)",
            "(<t>) <x> (<t>)",
            "(<t>",
            "(t)",
            "(Not)",
            "x",
            "(<>)",
            "([])",
            "([x])",
            "([\"x)",
            "<(<t>)",
            "(<t>)junk",
            "<x> (<t>) <x>",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"(<\xff>)").is_err());
        assert!(parse(format!("({})", "<t>".repeat(5000)).as_bytes()).is_err());
    }

    #[test]
    fn the_examples_of_the_rfc_parse() {
        let lists =
            parse(b"(<urn:uuid:1> [\"I am an ETag\"]) ([\"I am another ETag\"])").expect("grammatical");
        assert_eq!(lists[1].conditions[0].test, Test::Tag("\"I am another ETag\"".to_owned()));
        let lists = parse(b"(Not <urn:uuid:1> <urn:uuid:2>)").expect("grammatical");
        assert_eq!(lists[0].conditions.len(), 2);
        assert!(lists[0].conditions[0].not && !lists[0].conditions[1].not);
        let lists =
            parse(b"</r1> (<urn:uuid:1> [W/\"a\"]) ([\"b\"])\t<http://h/r2> ([\"c\"])").expect("grammatical");
        assert_eq!(lists.len(), 3);
        assert_eq!(lists[1].tag.as_deref(), Some("/r1"));
        assert_eq!(lists[2].conditions[0].test, Test::Tag("\"c\"".to_owned()));
    }
}
