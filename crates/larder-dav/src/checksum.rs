//! The OC-Checksum header: what the client says the bytes hash to, verified before they are published.
//!
//! A checksum that held is kept with the entity tag it held for and read back as the property `checksums`, so that
//! rclone can compare without downloading. It compares by MD5 where it takes the server for ownCloud, though it sends
//! SHA-1, and without an MD5 by size alone: both are kept, as there. Source: ownCloud, "Checksums in oc:checksums".

use crate::conditions::{etag, tag};
use crate::dead;
use crate::failure::Failure;
use crate::xml::PropName;
use larder_core::{Head, Node};
use larder_drive::Drive;
use md5::Digest;

/// The namespace of the property.
pub(crate) const OWNCLOUD: &str = "http://owncloud.org/ns";

/// Hashes a body as it comes in.
pub(crate) struct Checksum {
    /// What the client told, and what is kept with it.
    sums: Vec<Sum>,
    name: &'static str,
    want: String,
}

struct Sum {
    name: &'static str,
    state: State,
}

enum State {
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Md5(md5::Md5),
    /// The two sums. Source: RFC 1950 § 8.2.
    Adler32(u32, u32),
}

const ADLER_MODULUS: u32 = 65_521;
/// The most bytes whose sums fit 32 bits before the modulus is taken. Source: zlib, NMAX.
const ADLER_RUN: usize = 5552;

impl Checksum {
    /// Reads `SHA1:hex`, the first of several that we know; `None` where we know none.
    pub(crate) fn of(header: &str) -> Option<Self> {
        header.split_whitespace().find_map(|one| {
            let (name, want) = one.split_once(':')?;
            let sums = match name.to_ascii_uppercase().as_str() {
                "SHA1" | "MD5" => vec![
                    Sum { name: "SHA1", state: State::Sha1(sha1::Sha1::default()) },
                    Sum { name: "MD5", state: State::Md5(md5::Md5::default()) },
                ],
                "SHA256" | "SHA-256" => {
                    vec![Sum { name: "SHA256", state: State::Sha256(sha2::Sha256::default()) }]
                }
                "ADLER32" => vec![Sum { name: "ADLER32", state: State::Adler32(1, 0) }],
                _ => return None,
            };
            let told = sums.iter().find(|sum| sum.name.eq_ignore_ascii_case(name)).or(sums.first())?.name;
            Some(Self { sums, name: told, want: want.to_ascii_lowercase() })
        })
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sums.iter_mut().for_each(|sum| sum.state.update(bytes));
    }

    /// Compares, and returns all that is known of the bytes, as the header has it.
    ///
    /// # Errors
    /// 400 where the bytes are not those that the client meant.
    pub(crate) fn verify(self) -> Result<String, Failure> {
        let mut known = Vec::with_capacity(self.sums.len());
        for Sum { name, state } in self.sums {
            let have = state.hex();
            if name == self.name && have != self.want {
                let fault = format!("checksum of the body is {have}, not {}", self.want);
                return Err(Failure::bad_request(fault));
            }
            known.push(format!("{name}:{have}"));
        }
        Ok(known.join(" "))
    }
}

impl State {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            State::Sha1(state) => sha1::Digest::update(state, bytes),
            State::Sha256(state) => sha2::Digest::update(state, bytes),
            State::Md5(state) => state.update(bytes),
            State::Adler32(a, b) => {
                for run in bytes.chunks(ADLER_RUN) {
                    for byte in run {
                        *a += u32::from(*byte);
                        *b += *a;
                    }
                    *a %= ADLER_MODULUS;
                    *b %= ADLER_MODULUS;
                }
            }
        }
    }

    fn hex(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match self {
            State::Sha1(state) => hex(&sha1::Digest::finalize(state)),
            State::Sha256(state) => hex(&sha2::Digest::finalize(state)),
            State::Md5(state) => hex(&state.finalize()),
            State::Adler32(a, b) => format!("{:08x}", (b << 16) | a),
        }
    }
}

fn key() -> Vec<u8> {
    dead::key(&PropName { ns: OWNCLOUD.to_owned(), local: "checksums".to_owned() })
}

/// The attribute that keeps what held for a content: its name and its value.
pub(crate) fn attribute(head: &Head, checksum: &str) -> (Vec<u8>, Vec<u8>) {
    (key(), format!("{} {checksum}", tag(head)).into_bytes())
}

/// Returns what is kept for the content that `node` has now.
pub(crate) fn kept(drive: &Drive, node: &Node) -> Option<String> {
    let value = String::from_utf8(drive.catalog().xattr(node.id, &key()).ok()?).ok()?;
    let (tag, checksum) = value.split_once(' ')?;
    (etag(node)? == tag).then(|| checksum.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(header: &str) -> bool {
        let mut sum = Checksum::of(header).expect("a known kind");
        sum.update(b"Wiki");
        sum.update(b"pedia");
        sum.verify().is_ok()
    }

    #[test]
    fn known_sums_hold_and_others_do_not() {
        assert!(holds("ADLER32:11E60398"));
        assert!(holds("SHA1:664add438097fbd4307f814de8e62a10f8905588"));
        assert!(holds("MD5:9c677286866aad38f8e9b660f5411814"));
        assert!(holds("CRC7:1 SHA256:d38b38a2dd476e045c299e8ee5d6466834456d97bd592a71746b423a6a05f386"));
        assert!(!holds("SHA1:00"));
        assert!(Checksum::of("CRC7:1").is_none());
    }
}
