//! The fields behind the question mark of a URL.

use crate::failure::Failure;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use larder_core::Name;
use larder_core::name::DEPTH_MAX;
use larder_store::catalog::Cursor;
use larder_store::wire;

/// The longest query, percent signs and all: a path of some thousand names.
const QUERY_MAX_BYTES: usize = 32 << 10;
/// The longest cursor, in base64; the longest of ours has 27 letters.
const CURSOR_MAX_BYTES: usize = 128;

/// A query; what nobody asks for is passed over.
pub(crate) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The query of `uri`.
    ///
    /// # Errors
    /// 400 where it is too long.
    pub(crate) fn of(uri: &'a Uri) -> Result<Self, Failure> {
        let text = uri.query().unwrap_or_default();
        if text.len() > QUERY_MAX_BYTES {
            return Err(Failure::invalid("query", format_args!("more than {QUERY_MAX_BYTES} bytes")));
        }
        Ok(Query(text))
    }

    /// The text of `field`; a plus sign is a plus sign.
    ///
    /// # Errors
    /// 400 where it is there twice, or no text.
    fn text(&self, field: &str) -> Result<Option<String>, Failure> {
        let pairs = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut values = pairs.filter(|(key, _)| *key == field).map(|(_, value)| value);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Failure::invalid(field, "given twice"));
        }
        let wrong = || Failure::invalid(field, "no text in percent-encoding");
        let bytes = wire::bytes_of(value).map_err(|_| wrong())?;
        String::from_utf8(bytes).map(Some).map_err(|_| wrong())
    }

    /// `limit`, at least 1.
    ///
    /// # Errors
    /// 400 for anything but a number up to `max`.
    pub(crate) fn limit(&self, usual: usize, max: usize) -> Result<usize, Failure> {
        let Some(text) = self.text("limit")? else { return Ok(usual) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && (1..=max).contains(number));
        number.ok_or_else(|| Failure::invalid("limit", format_args!("a number from 1 to {max}")))
    }

    /// The name behind which a page begins, in `after`.
    ///
    /// # Errors
    /// 400 for what is no name.
    pub(crate) fn after_name(&self) -> Result<Option<Name>, Failure> {
        self.text("after")?.map(|text| name("after", &text)).transpose()
    }

    /// The names of `path`; none where it is empty.
    ///
    /// # Errors
    /// 400 for what is no path.
    pub(crate) fn path(&self) -> Result<Vec<Name>, Failure> {
        let text = self.text("path")?.ok_or_else(|| Failure::invalid("path", "missing"))?;
        if text.is_empty() {
            return Ok(Vec::new());
        }
        if text.split('/').count() > DEPTH_MAX {
            return Err(Failure::invalid("path", format_args!("more than {DEPTH_MAX} names")));
        }
        text.split('/').map(|part| name("path", part)).collect()
    }

    /// The version in `rules`, if there is one.
    ///
    /// # Errors
    /// 400 for what is no number.
    pub(crate) fn rules(&self) -> Result<Option<u64>, Failure> {
        let number = |text: String| text.parse().map_err(|_| Failure::invalid("rules", "a version"));
        self.text("rules")?.map(number).transpose()
    }

    /// The cursor in `after`.
    ///
    /// # Errors
    /// 400 for what is none.
    pub(crate) fn after_cursor(&self) -> Result<Cursor, Failure> {
        let text = self.text("after")?.ok_or_else(|| Failure::invalid("after", "missing"))?;
        let bytes = URL_SAFE_NO_PAD.decode(&text).ok().filter(|_| text.len() <= CURSOR_MAX_BYTES);
        bytes.map(Cursor).ok_or_else(|| Failure::invalid("after", "no cursor"))
    }
}

/// A cursor as the protocol has it.
pub(crate) fn cursor_text(cursor: &Cursor) -> String {
    URL_SAFE_NO_PAD.encode(&cursor.0)
}

fn name(field: &str, text: &str) -> Result<Name, Failure> {
    let bytes = wire::bytes_of(text).map_err(|_| Failure::invalid(field, "a lone % in a name"))?;
    Name::new(bytes).map_err(|error| Failure::invalid(field, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(query: &str) -> Uri {
        format!("/x?{query}").parse().expect("a URL")
    }

    #[test]
    fn names_are_decoded_twice() {
        let uri = uri("after=50%2525%25FF+%C3%A4&other");
        let name = Query::of(&uri).expect("short").after_name().expect("a name").expect("there");
        assert_eq!(name.as_bytes(), b"50%\xff+\xc3\xa4");
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let long = "x".repeat(256);
        for value in ["%", "%zz", "%FF", "..", "%25", "a/b", "%2500", "", &long, "a&after=b"] {
            let uri = uri(&format!("after={value}"));
            assert!(Query::of(&uri).expect("short").after_name().is_err(), "{value}");
        }
        for value in ["0", "11", "-1", "+1", "", "x", "99999999999999999999"] {
            let uri = uri(&format!("limit={value}"));
            assert!(Query::of(&uri).expect("short").limit(5, 10).is_err(), "{value}");
        }
        for value in ["a/", "/a", "a//b", "a/../b", &"a/".repeat(DEPTH_MAX + 1)] {
            let uri = uri(&format!("path={value}"));
            assert!(Query::of(&uri).expect("short").path().is_err(), "{value}");
        }
        for value in ["!", "AA==", "A", &"A".repeat(CURSOR_MAX_BYTES + 4)] {
            let uri = uri(&format!("after={value}"));
            assert!(Query::of(&uri).expect("short").after_cursor().is_err(), "{value}");
        }
        let long = uri(&"x".repeat(QUERY_MAX_BYTES + 1));
        assert!(Query::of(&long).is_err());
    }
}
