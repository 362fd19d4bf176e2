//! What an element of XML inherits: namespaces and a language, within limits. Source: Namespaces in XML 1.0.

/// The most namespaces in scope.
pub(crate) const BINDINGS_MAX: usize = 64;
/// The most bytes of what is in scope: every element can carry a copy of it.
pub(crate) const SCOPE_MAX_BYTES: usize = 4096;
/// What a namespace in scope takes beside its letters: two strings, and what the allocator adds to each.
const BINDING_BYTES: usize = 80;

/// What elements inherit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Namespaces: prefix and URI; the empty prefix for the default.
    pub(crate) bindings: Vec<(String, String)>,
    /// `xml:lang`.
    pub(crate) lang: Option<String>,
}

impl Scope {
    /// Adds a namespace.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn bind(&mut self, prefix: &str, uri: &str) -> Result<(), String> {
        // Source: Namespaces in XML 1.0 § 3 and § 2.2.
        if (!prefix.is_empty() && uri.is_empty()) || prefix == "xmlns" || prefix == "xml" {
            return Err(format!("namespace prefix {prefix:?} cannot be bound so"));
        }
        self.bindings.retain(|(bound, _)| bound != prefix);
        self.bindings.push((prefix.to_owned(), uri.to_owned()));
        self.fits()
    }

    /// Sets the language.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn speak(&mut self, lang: &str) -> Result<(), String> {
        self.lang = Some(lang.to_owned());
        self.fits()
    }

    fn fits(&self) -> Result<(), String> {
        if self.bindings.len() > BINDINGS_MAX || self.letters() > SCOPE_MAX_BYTES {
            return Err("too many namespaces, or too long ones".to_owned());
        }
        Ok(())
    }

    /// The length of all strings.
    fn letters(&self) -> usize {
        let bound: usize = self.bindings.iter().map(|(prefix, uri)| prefix.len() + uri.len()).sum();
        bound + self.lang.as_ref().map_or(0, String::len)
    }

    /// About what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.letters() + self.bindings.len() * BINDING_BYTES
    }

    /// The namespace of a prefix.
    ///
    /// # Errors
    /// That there is none.
    pub(crate) fn resolve(&self, prefix: &str) -> Result<String, String> {
        match prefix {
            "xml" => return Ok("http://www.w3.org/XML/1998/namespace".to_owned()),
            "xmlns" => return Ok("http://www.w3.org/2000/xmlns/".to_owned()),
            _ => {}
        }
        let bound = self.bindings.iter().find(|(bound, _)| bound == prefix).map(|(_, uri)| uri.clone());
        match bound {
            Some(uri) => Ok(uri),
            None if prefix.is_empty() => Ok(String::new()),
            None => Err(format!("namespace prefix {prefix:?} is not bound")),
        }
    }
}
