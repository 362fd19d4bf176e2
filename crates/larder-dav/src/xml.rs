//! Request bodies in XML, read strictly and within limits: no document type, no entities but the five, bounded depth
//! and number of elements, well-formed with namespaces.
//!
//! Elements keep where they were in the text, so that a dead property is stored as its author wrote it.

use crate::failure::Failure;
use crate::xml_scope::Scope;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use std::ops::Range;
use std::sync::Arc;

/// The deepest nesting.
const DEPTH_MAX: usize = 100;
/// The most elements of one body.
const ELEMENTS_MAX: usize = 20_000;
/// The most attributes of one element: each is compared with those before it.
const ATTRIBUTES_MAX: usize = 100;
/// The most bytes of namespaces that are in the text once and in memory often. A body of as many elements as may be, each
/// with a namespace of its own beside two that it inherits, takes 6 MiB.
const COPIES_MAX_BYTES: usize = 8 << 20;

/// A name with its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PropName {
    pub ns: String,
    pub local: String,
}

/// An element and what it holds.
#[derive(Debug)]
pub(crate) struct Element {
    pub name: PropName,
    pub children: Vec<Element>,
    /// Character data directly inside, references resolved.
    pub text: String,
    /// What is in scope at the start tag; shared by all elements that add nothing to it.
    scope: Arc<Scope>,
    start_tag: Range<usize>,
    inner: Range<usize>,
}

impl Element {
    pub(crate) fn is_dav(&self, local: &str) -> bool {
        self.name.ns == "DAV:" && self.name.local == local
    }

    pub(crate) fn dav_child(&self, local: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.is_dav(local))
    }

    /// The element as text that means the same anywhere: namespaces and language that it inherits are declared on it.
    pub(crate) fn standalone(&self, source: &str) -> String {
        let tag = source[self.start_tag.clone()].trim_start_matches('<');
        let tag = tag.trim_end_matches('>').trim_end_matches('/').trim_end();
        let mut out = format!("<{tag}");
        for (prefix, uri) in &self.scope.bindings {
            let attribute = if prefix.is_empty() { "xmlns".to_owned() } else { format!("xmlns:{prefix}") };
            let none = prefix.is_empty() && uri.is_empty();
            if !none && !declares(tag, &attribute) {
                out.push_str(&format!(" {attribute}=\"{}\"", escape(uri)));
            }
        }
        if let Some(lang) = &self.scope.lang
            && !declares(tag, "xml:lang")
        {
            out.push_str(&format!(" xml:lang=\"{}\"", escape(lang)));
        }
        let qname = tag.split_ascii_whitespace().next().unwrap_or_default();
        match &source[self.inner.clone()] {
            "" => out.push_str("/>"),
            inner => out.push_str(&format!(">{inner}</{qname}>")),
        }
        out
    }
}

fn declares(tag: &str, attribute: &str) -> bool {
    let mut attributes = quick_xml::events::attributes::Attributes::new(
        tag,
        tag.find(char::is_whitespace).unwrap_or(tag.len()),
    );
    attributes.any(|a| a.is_ok_and(|a| a.key.into_inner() == attribute))
}

/// Replaces what XML reserves.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // What XML cannot hold at all (C0 controls, which a file name may have).
            c if u32::from(c) < 0x20 && !matches!(c, '\t' | '\n' | '\r') => out.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Reads a document and returns its root element.
///
/// # Errors
/// 400 where it is not well-formed, or beyond the limits.
pub(crate) fn parse(source: &str) -> Result<Element, Failure> {
    if source.chars().any(|c| u32::from(c) < 0x20 && !matches!(c, '\t' | '\n' | '\r')) {
        return Err(bad("control character"));
    }
    let source_start = source.len() - source.trim_start_matches('\u{feff}').len();
    let mut parser = Parser {
        reader: Reader::from_str(&source[source_start..]),
        base: source_start,
        open: Vec::new(),
        root: None,
        elements: 0,
        copied_bytes: 0,
    };
    parser.reader.config_mut().enable_all_checks(true);
    loop {
        let before = parser.position();
        let event = parser.reader.read_event().map_err(|error| bad(error.to_string()))?;
        let after = parser.position();
        match event {
            Event::Start(tag) => parser.start(&tag, before..after)?,
            Event::Empty(tag) => {
                parser.start(&tag, before..after)?;
                parser.end(after)?;
            }
            Event::End(_) => parser.end(before)?,
            Event::Text(text) => parser.text(&text.into_inner())?,
            Event::CData(text) if !parser.open.is_empty() => parser.text(&text.into_inner())?,
            Event::CData(_) => return Err(bad("text outside of the root element")),
            Event::GeneralRef(reference) => parser.reference(&reference)?,
            Event::DocType(_) => return Err(bad("a document type is not allowed")),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    match (parser.root, parser.open.is_empty()) {
        (Some(root), true) => Ok(root),
        _ => Err(bad("no whole element")),
    }
}

fn bad(what: impl Into<String>) -> Failure {
    Failure::bad_request(format!("XML: {}", what.into()))
}

struct Parser<'a> {
    reader: Reader<&'a [u8]>,
    base: usize,
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
    /// What scopes and the namespaces of names take so far.
    copied_bytes: usize,
}

impl Parser<'_> {
    fn position(&self) -> usize {
        self.base + self.reader.buffer_position() as usize
    }

    fn start(&mut self, tag: &BytesStart<'_>, at: Range<usize>) -> Result<(), Failure> {
        self.elements += 1;
        if self.open.len() >= DEPTH_MAX || self.elements > ELEMENTS_MAX {
            return Err(bad("nested too deep or too many elements"));
        }
        if self.root.is_some() {
            return Err(bad("more than one root element"));
        }
        if tag.attributes().take(ATTRIBUTES_MAX + 1).count() > ATTRIBUTES_MAX {
            return Err(bad("too many attributes"));
        }
        let mut scope = self.open.last().map(|parent| parent.scope.clone()).unwrap_or_default();
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|error| bad(error.to_string()))?;
            let key = attribute.key.into_inner();
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| bad(error.to_string()))?;
            if value.contains('<') || !is_qname(key) {
                return Err(bad("attribute is not well-formed"));
            }
            match key.split_once(':') {
                None if key == "xmlns" => Arc::make_mut(&mut scope).bind("", &value).map_err(bad)?,
                Some(("xmlns", prefix)) => Arc::make_mut(&mut scope).bind(prefix, &value).map_err(bad)?,
                Some(("xml", "lang")) => Arc::make_mut(&mut scope).speak(&value).map_err(bad)?,
                _ => {}
            }
        }
        for attribute in tag.attributes().flatten() {
            if let Some((prefix, _)) = attribute.key.into_inner().split_once(':') {
                scope.resolve(prefix).map_err(bad)?;
            }
        }
        let qname = tag.name().into_inner();
        if !is_qname(qname) {
            return Err(bad(format!("{qname:?} is no name")));
        }
        let (prefix, local) = qname.split_once(':').unwrap_or(("", qname));
        let name = PropName { ns: scope.resolve(prefix).map_err(bad)?, local: local.to_owned() };
        let inner = at.end..at.end;
        let shared = self.open.last().is_some_and(|parent| Arc::ptr_eq(&parent.scope, &scope));
        self.copied_bytes += name.ns.len() + if shared { 0 } else { scope.bytes() };
        if self.copied_bytes > COPIES_MAX_BYTES {
            return Err(bad("too many namespaces in all"));
        }
        let (children, text) = (Vec::new(), String::new());
        self.open.push(Element { name, children, text, scope, start_tag: at, inner });
        Ok(())
    }

    fn end(&mut self, inner_end: usize) -> Result<(), Failure> {
        let mut element = self.open.pop().ok_or_else(|| bad("end tag without a start"))?;
        element.inner.end = inner_end;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Failure> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(bad("text outside of the root element")),
        }
        Ok(())
    }

    fn reference(&mut self, reference: &quick_xml::events::BytesRef<'_>) -> Result<(), Failure> {
        let c = match reference.resolve_char_ref().map_err(|error| bad(error.to_string()))? {
            Some(c) => c,
            None => match &*reference.clone().into_inner() {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "apos" => '\'',
                "quot" => '"',
                other => return Err(bad(format!("entity {other:?} is not declared"))),
            },
        };
        self.text(c.encode_utf8(&mut [0; 4]))
    }
}

/// A name with at most one colon. Lenient in the letters beyond ASCII. Source: Namespaces in XML 1.0 § 4.
fn is_qname(name: &str) -> bool {
    let is_ncname = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(|c| c == '_' || c.is_alphabetic() || u32::from(c) > 0xff)
            && chars.all(|c| {
                matches!(c, '_' | '-' | '.' | '\u{b7}') || c.is_alphanumeric() || u32::from(c) > 0xff
            })
    };
    name.split(':').count() <= 2 && name.split(':').all(is_ncname)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml_scope::{BINDINGS_MAX, SCOPE_MAX_BYTES};

    #[test]
    fn hostile_documents_are_refused() {
        let deep = format!("{}{}", "<a>".repeat(5000), "</a>".repeat(5000));
        let wide = format!("<a>{}</a>", "<b/>".repeat(30_000));
        // What every child would inherit.
        let bound: String = (0..65).map(|n| format!(" xmlns:a{n}='u'")).collect();
        let inherited = |start: &str| format!("<a{start}>{}</a>", "<b/>".repeat(ELEMENTS_MAX - 1));
        let (bound, long) = (inherited(&bound), "u".repeat(SCOPE_MAX_BYTES + 1));
        let (long_uri, long_lang) =
            (inherited(&format!(" xmlns='{long}'")), inherited(&format!(" xml:lang='{long}'")));
        let attributes: String = (0..=ATTRIBUTES_MAX).map(|n| format!(" a{n}='1'")).collect();
        let attributes = format!("<a{attributes}/>");
        for bad in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>x",
            "<a:b/>",
            "<a xmlns:b=''/>",
            "<a b='1' b='2'/>",
            "<a b=1/>",
            "<1a/>",
            "<a>&undeclared;</a>",
            "<a>&#0;</a>",
            "<a>\u{1}</a>",
            "<a b='<'/>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
            "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
            "<a><!-- -- --></a>",
            &deep,
            &wide,
            &bound,
            &long_uri,
            &long_lang,
            &attributes,
        ] {
            assert!(parse(bad).is_err(), "{}", &bad[..bad.len().min(60)]);
        }
    }

    #[test]
    fn what_elements_inherit_is_not_multiplied_without_bound() {
        let children = |child: &str| child.repeat(ELEMENTS_MAX - 1);
        let usual = children("<x xmlns='http://example.org/properties'/>");
        parse(&format!("<D:a xmlns:D='DAV:' xmlns:o='http://owncloud.org/ns'>{usual}</D:a>"))
            .expect("each with a namespace of its own");
        let many: String = (1..BINDINGS_MAX).map(|n| format!(" xmlns:a{n}='u'")).collect();
        let long = format!(" xmlns='{}'", "u".repeat(SCOPE_MAX_BYTES - 10));
        for (inherited, child) in [
            (&many, "<b xmlns:a='u'/>"),
            (&many, "<b xml:lang='de'/>"),
            (&long, "<b xml:lang='de'/>"),
            // Names carry their namespace.
            (&long, "<b/>"),
        ] {
            let hostile = format!("<a{inherited}>{}</a>", children(child));
            assert!(parse(&hostile).is_err(), "{child} below {} bytes of {inherited:.20}", inherited.len());
        }
    }

    #[test]
    fn names_and_text_are_resolved() {
        let source = "<?xml version=\"1.0\"?>\n<p:a xmlns:p='urn:x'>1 &lt; <b xmlns='DAV:'/><![CDATA[<2>]]>&#x41;</p:a>\n";
        let root = parse(source).expect("well-formed");
        assert_eq!((root.name.ns.as_str(), root.name.local.as_str()), ("urn:x", "a"));
        assert_eq!(root.text, "1 < <2>A");
        assert!(root.dav_child("b").is_some());
    }

    #[test]
    fn an_element_stands_alone_as_written() {
        let source = "<D:set xmlns:D='DAV:' xmlns:Z='urn:z' xml:lang='de'><D:prop><Z:p a='1'>x<i/></Z:p></D:prop></D:set>";
        let root = parse(source).expect("well-formed");
        let text = root.children[0].children[0].standalone(source);
        assert_eq!(text, "<Z:p a='1' xmlns:D=\"DAV:\" xmlns:Z=\"urn:z\" xml:lang=\"de\">x<i/></Z:p>");
        assert_eq!(parse(&text).expect("still well-formed").children[0].name.ns, "");
    }
}
